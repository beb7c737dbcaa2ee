"""What says of a file that regspec made it, and that nobody has changed it."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from regspec.text.seals import BLANK, COMMENT, is_sealed, sealed
from tests.runs import write_run

TEXTS = {
    "a page": f'<meta name="generator" content="{BLANK}">\n<p>Loss 0.25</p>\n',
    "Markdown": f"# A model\n\n{COMMENT}",
    "JSON": f'{{\n "$comment": "{BLANK}",\n "title": "mine"\n}}\n',
}
FORMATS = ("png", "svg", "pdf")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    from regspec.report.images import image

    run = write_run(tmp_path_factory.mktemp("runs") / "run", epochs=1)
    made = {name: sealed(text.encode()) for name, text in TEXTS.items()}
    return {**made, **{name: image(run, "curves", name) for name in FORMATS}}


@pytest.mark.parametrize("name", [*TEXTS, *FORMATS])
def test_every_byte_counts(name: str, files: dict[str, bytes]) -> None:
    content = files[name]
    assert is_sealed(content)
    assert sealed(content) == content
    for at in range(0, len(content), max(1, len(content) // 50)):
        assert not is_sealed(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert not is_sealed(content[:at] + b" " + content[at:])
    assert not is_sealed(content + content)


@pytest.mark.parametrize(
    "content", [b"", b"regspec", BLANK.encode(), b"regspec: 1\nlayers: []\n", "é".encode("latin-1")]
)
def test_a_file_that_is_not_sealed(content: bytes) -> None:
    assert not is_sealed(content)


def test_a_sealed_picture_is_a_picture(files: dict[str, bytes]) -> None:
    """A chunk of a PNG has a checksum, and a reader checks it."""
    with Image.open(io.BytesIO(files["png"])) as picture:
        picture.load()
        assert picture.info["Software"].startswith("regspec:")
