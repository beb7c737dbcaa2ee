"""The pictures of a run, in reports.md: ``python examples/pages/gallery.py`` trains with and without penalties."""

from pathlib import Path
from tempfile import TemporaryDirectory

from regspec.report.images import image
from regspec.training.loop.run import train
from regspec.training.options.options import Options

FOLDER = Path(__file__).parent
SPEC = FOLDER.parent / "digits_cnn.yaml"
OPTIONS = Options(epochs=25, optimizer="sgd momentum=0.9", lr=0.05, seed=1, baseline=True)


def main() -> None:
    with TemporaryDirectory() as folder:
        run = train(SPEC, OPTIONS, Path(folder) / "run", parameters={"strength": 1e-3})
        for name in ("curves", "weights"):
            (FOLDER / f"gallery_{name}.png").write_bytes(image(run.folder, name))


if __name__ == "__main__":
    main()
