"""How to train: the options of a run, as a value that a run's folder keeps.

Each is said here, for every command and for training files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from regspec.language.fields import Frozen
from regspec.text.problems import Problem, RegspecError
from regspec.training.options.columns import ColumnSection
from regspec.training.options.forms import Called, ColumnsSaid, Optimizer, Outputs, Pairs, Rules
from regspec.training.options.synonyms import Source

BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")  # sets that scikit-learn brings along
IN_MEMORY = "<memory>"  # data that a run's folder can't name
LOSS, STEPS, ENDS, MACHINE = "The loss", "Steps", "Beginning and end", "Machine"  # headings of options


@dataclass(frozen=True)
class Option:
    """What commands and training files say of a field, as an annotation of it.

    Args:
        help: what it is, for ``--help`` and for editors.
        least: the least number that it may be.
        most: the greatest.
        metavar: how ``--help`` writes its value.
        is_changeable: whether a resumed run may have another.
        is_of_one_run: whether it is about one run, and not for the trials of a search.
        section: of training files, in which it stands.
        key: its name there, if that is another.
        form: its type there, if that is another: one that gives what the command line gives.
        keys: what says the keys that may stand behind a name and a dot, where a name alone may stand there, too.
        is_list: whether the order of its values counts, so that those of the command line replace the file's.
        is_path: whether it is a file or a folder, or may be one; in a training file relative to that.
        panel: under which heading ``--help`` has it; that of its section when absent.
    """

    help: str
    least: float | None = None
    most: float | None = None
    metavar: str | None = None
    is_changeable: bool = False
    is_of_one_run: bool = False
    section: str = "training"
    key: str | None = None
    form: Any = None
    keys: type[Frozen] | None = None
    is_list: bool = False
    is_path: bool = False
    panel: str | None = None

    @property
    def heading(self) -> str:
        """Under which heading ``--help`` has it."""
        return self.panel or self.section.capitalize()

    @staticmethod
    @cache
    def all_of(cls: type) -> Mapping[str, Option]:
        """The options of a dataclass, by the names of its fields."""
        hints = get_type_hints(cls, include_extras=True)
        return {each.name: hints[each.name].__metadata__[0] for each in fields(cls)}


@dataclass(frozen=True)
class Options:
    """How to train."""

    data: Annotated[
        str,
        Option(
            "digits (pixels divided by 16), wine or another bundled set; a .npz, .csv or .parquet file; a folder of "
            "images or of .npy files; or package.module:function.",
            section="data",
            key="train",
            form=Source,
            is_path=True,
        ),
    ] = "digits"
    validation: Annotated[
        str | None,
        Option(
            "What is held out, in place of a fifth of the data: as those.",
            section="data",
            form=Source | None,
            is_path=True,
        ),
    ] = None
    target: Annotated[
        str | None,
        Option(
            "The column or array of an only output's target, or an input; the last column, or y, when absent.",
            section="data",
        ),
    ] = None
    outputs: Annotated[
        tuple[str, ...],
        Option(
            "What an output learns: its target, loss, weight, metrics, class_weights, ignore_index, and arguments of "
            "its loss. --outputs.price.loss huber says the same. Repeatable.",
            metavar="OUTPUT.KEY=VALUE",
            form=Outputs,
            panel=LOSS,
        ),
    ] = ()
    columns: Annotated[
        tuple[str, ...],
        Option(
            "What becomes of a table's column: target, drop, weight, group, one_hot, codes, or impute, scale, date and "
            "text. "
            "--columns.city one_hot and --columns.age.impute median say the same. Repeatable.",
            metavar="COLUMN=…",
            section="data",
            form=ColumnsSaid,
            keys=ColumnSection,
        ),
    ] = ()
    folds: Annotated[
        int | None,
        Option(
            "Train so many runs, each of which holds out another part of the data, and tell the mean of their figures.",
            least=2,
            section="data",
        ),
    ] = None
    fold: Annotated[
        int | None,
        Option("Train this one of the folds only, counted from 1.", least=1, section="data", is_of_one_run=True),
    ] = None
    epochs: Annotated[int, Option("How often to go over the data.", least=1, is_changeable=True, panel=STEPS)] = 30
    batch_size: Annotated[int, Option("Examples in a step, over all processes.", least=2, panel=STEPS)] = 64
    optimizer: Annotated[
        str,
        Option(
            "One of torch's, with its arguments: 'sgd momentum=0.9 nesterov=true', 'adam betas=(0.9,0.99)'; or "
            "keras_adam and others, whose steps are Keras's.",
            form=Optimizer,
            panel=STEPS,
        ),
    ] = "adam"
    lr: Annotated[float, Option("The learning rate.", least=0, panel=STEPS)] = 1e-3
    rules: Annotated[
        tuple[str, ...],
        Option(
            "lr, weight_decay or trainable of the weights that it selects by layers, kinds, except and slots: "
            "'layers=encoder.* lr=1e-4', 'slots=[bias,gamma,beta] weight_decay=0', 'kinds=Embedding trainable=false'; "
            "of each the first that holds. Repeatable.",
            metavar="SELECTED SAID",
            form=Rules,
            is_list=True,
            panel=STEPS,
        ),
    ] = ()
    schedule: Annotated[
        str | None,
        Option(
            "Of the learning rate: 'cosine warmup=200', 'linear_decay end=0.1', and torch's, such as "
            "'step step_size=10 gamma=0.5', 'reduce_lr_on_plateau patience=3'; by=steps counts steps, and not epochs.",
            form=Called | None,
            panel=STEPS,
        ),
    ] = None
    clip_gradients: Annotated[
        float | None,
        Option(
            "The most that the norm of a step's gradient may be; a longer one is scaled down.", least=0, panel=STEPS
        ),
    ] = None
    clip_by: Annotated[
        Literal["norm", "each_norm", "value"],
        Option(
            "Of what clip_gradients is the most: of the norm of all gradients, of that of each parameter's, or of each "
            "number of them, which is cut.",
            panel=STEPS,
        ),
    ] = "norm"
    accumulate: Annotated[
        int,
        Option("Batches in a step of the optimizer: like one batch of them all, in less memory.", least=1, panel=STEPS),
    ] = 1
    ema: Annotated[
        float | None,
        Option(
            "Evaluate and keep the moving average of the weights over the steps; so much of it stays in each: 0.999.",
            least=0,
            most=1,
            panel=STEPS,
        ),
    ] = None
    seed: Annotated[
        int,
        Option("Of weights, split and order of the data, and what layers draw.", least=0, most=2**32 - 1, panel=ENDS),
    ] = 0
    route: Annotated[
        tuple[str, ...],
        Option(
            "Another route than the loss: l1=proximal, l2=decay, activity=gradient, hidden.kernel=decay. Repeatable.",
            metavar="TERMS=ROUTE",
            form=Pairs,
            panel=LOSS,
        ),
    ] = ()
    weights: Annotated[
        str | None,
        Option(
            "What to begin with: a run's folder or a port's, or a .safetensors file. Every tensor must fit the model.",
            is_path=True,
            panel=ENDS,
        ),
    ] = None
    weights_skip: Annotated[
        str | None,
        Option(
            "Tensors that begin anew, a new head: those whose whole name this regular expression matches.",
            metavar="REGEX",
            panel=ENDS,
        ),
    ] = None
    class_weights: Annotated[Literal["balanced"] | None, Option("balanced: rare classes count more.", panel=LOSS)] = (
        None
    )
    monitor: Annotated[
        str | None,
        Option(
            "Which held-out figure tells what epoch is the best: f1, kind.f1 of one of several outputs, 'min own'; the "
            "loss when absent. last: keep the last epoch.",
            panel=ENDS,
        ),
    ] = None
    patience: Annotated[
        int | None,
        Option(
            "Stop after so many epochs without a better held-out loss, or figure. --early-stopping 5 says the same.",
            least=1,
            is_changeable=True,
            panel=ENDS,
        ),
    ] = None
    baseline: Annotated[
        bool, Option("Train a twin without penalties too, for the report.", is_of_one_run=True, panel=ENDS)
    ] = False
    precision: Annotated[str, Option("Lightning's: 32-true, bf16-mixed, 16-mixed, 64-true, …", panel=MACHINE)] = (
        "32-true"
    )
    accelerator: Annotated[str, Option("auto, cpu, gpu, mps, …", is_changeable=True, panel=MACHINE)] = "auto"
    devices: Annotated[
        str, Option("How many, on each machine; auto for all.", is_changeable=True, is_of_one_run=True, panel=MACHINE)
    ] = "1"
    strategy: Annotated[
        Literal["auto", "ddp", "fsdp"],
        Option(
            "ddp: each process has all weights; fsdp: each has a share.",
            is_changeable=True,
            is_of_one_run=True,
            panel=MACHINE,
        ),
    ] = "auto"
    logger: Annotated[
        Literal["csv", "tensorboard"],
        Option(
            "metrics.csv is always written; tensorboard besides.", is_changeable=True, is_of_one_run=True, panel=MACHINE
        ),
    ] = "csv"
    compile: Annotated[bool, Option("Train through torch.compile.", is_changeable=True, panel=MACHINE)] = False

    @property
    def is_of_all_folds(self) -> bool:
        """Whether a run is asked for of each fold, and not one run."""
        return self.folds is not None and self.fold is None

    def as_dict(self) -> dict[str, Any]:
        """The options as plain data."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Options:
        """The options of plain data; what an older version did not have is at its default."""
        known = {field.name for field in fields(cls)}
        given: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in data.items()
        }
        return cls(**{name: value for name, value in given.items() if name in known})

    def routes_of(self) -> dict[str, Any]:
        """The routes as `regspec.bind` takes them. Raises `RegspecError`."""
        from regspec.modules.binding import unknown_route  # which needs torch; the options alone do not

        routes: dict[str, Any] = {}
        for each in self.route:
            what, is_given, route = each.rpartition("=")
            if not is_given or not what:
                raise RegspecError(Problem(f"'{each}' is no route", "write l1=proximal, or hidden.kernel=decay"))
            if problem := unknown_route(what, route):
                raise RegspecError(problem)
            if what in routes or what in routes.get("terms", {}):
                raise RegspecError(Problem(f"there are two routes of '{what}'"))
            if what in ("l1", "l2", "group_lasso", "activity"):
                routes[what] = route
            else:
                routes.setdefault("terms", {})[what] = route
        return routes
