"""What a user writes to have a network trained and compressed: one YAML file per recipe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field

from dchw import showing
from dchw.architectures import ARCHITECTURES
from dchw.compression.recipe import CONVOLUTION_BITS, LINEAR_BITS, Recipe
from dchw.config import Config, NonNegative, Positive, load_yaml, parse_change
from dchw.quantities import ConfigError, forgiven, nearest
from dchw.training.loop import Distillation, Training
from dchw.training.pruning import Pruning, Schedule
from dchw.training.sharing import Sharing

SUFFIX = ".yaml"


class Promise(Config):
    """What the recipe reaches on its data set's test images; checked after training."""

    error_percent: float = Field(ge=0, le=100)
    """Largest error on the test images, in percent."""
    file_bytes: Positive
    """Largest ``.dchw`` file, in bytes."""


class Method(Config):
    """From a dense module to a compressed one: train densely where asked, prune and retrain, share and fine-tune."""

    dense: Training | None = None
    """Training before anything is pruned; without it the module is taken as trained."""
    skip: tuple[str, ...] = ()
    """Names or patterns of layers that are neither pruned nor shared: they train along and are kept as float16."""
    fold_normalisation: bool = False
    """True: once the dense training is done, batch normalisation becomes part of the layers before it, as it is in
    inference; their biases then train, and are stored, in its place. False: it trains along and is kept in float32."""
    pruning: Pruning
    """How weights are pruned and retrained."""
    sharing: Sharing
    """How weights come to share values and how those are fine-tuned."""
    distillation: Distillation | None = None
    """With it the dense network teaches the pruned and the shared one."""
    storage: Recipe = Recipe()
    """How the codes are stored; what concerns pruning and sharing (density, threshold, init, seed) stays unset."""
    example_images: NonNegative = 0
    """Examples kept in the file, so that a simulation uses real activations."""

    def with_epochs(self, total: int) -> Self:
        """The method with its stages shortened or lengthened in proportion, ``total`` epochs in all."""
        stages = {
            "dense": self.dense.epochs if self.dense is not None else 0,
            "pruning.training": self.pruning.training.epochs,
            "pruning.retraining": self.pruning.retraining.epochs,
            "sharing.training": self.sharing.training.epochs,
        }
        changed = self
        for stage, epochs in spread(total, stages).items():
            if epochs or stage != "dense" or self.dense is not None:
                changed = changed.replace(f"{stage}.epochs", epochs)
        return changed

    def __repr__(self) -> str:
        return showing.call(type(self).__name__, {name: getattr(self, name) for name in sorted(self.model_fields_set)})


class TrainingRecipe(Method):
    """A method with a name, and what it is carried out on.

    ``architecture`` and ``dataset`` name built-in ones; without them module and batches are given.
    """

    name: str = Field(pattern=r"[A-Za-z0-9][A-Za-z0-9_.-]*")
    """Of the networks it gives."""
    architecture: Literal["lenet-300-100", "lenet-5"] | None = None
    """A built-in module."""
    dataset: Literal["mnist", "digits"] | None = None
    """A built-in data set."""
    seeds: list[NonNegative] = Field(default=[0], min_length=1)
    """Seeds of pruning, retraining and fine-tuning; each gives one compressed network."""
    dense_seed: NonNegative = 0
    """Seed of the dense network that all of them start from."""
    promise: Promise | None = None
    """What the recipe reaches; checked after training."""


def spread(total: int, shares: Mapping[str, int]) -> dict[str, int]:
    """Split a whole number in proportion; what rounding leaves goes to the largest remainders, first ones first.

    A share above zero gets at least one while the total allows it. Raises ConfigError where it does not.
    """
    wanted = [name for name, share in shares.items() if share]
    if total < len(wanted) or not wanted:
        raise ConfigError(
            f"epochs: expected at least {len(wanted)}, one for each of {', '.join(wanted) or 'no stage'}; got {total}; "
            "give more"
        )
    whole = sum(shares.values())
    parts = {name: max(total * share // whole, 1) if share else 0 for name, share in shares.items()}
    remainders = sorted(wanted, key=lambda name: -(total * shares[name] % whole))
    while sum(parts.values()) < total:
        parts[remainders[0]] += 1
        remainders = [*remainders[1:], remainders[0]]
    while sum(parts.values()) > total:  # where small shares were raised to one
        parts[max(wanted, key=lambda name: parts[name])] -= 1
    return parts


def papers_method(recipe: Recipe, weights: Mapping[str, str], *, epochs: int, steps_per_epoch: int) -> Method:
    """Deep Compression's own method for what a `Recipe` asks of every layer (Han, Mao and Dally, ICLR 2016).

    ``weights`` maps the layers' names to their kinds, ``convolution`` or ``linear``. Magnitude pruning per layer in
    four rounds with retraining in between, 40 % of the epochs; retraining with the masks held, 30 %; k-means and
    fine-tuning of the shared values, 30 %. Adam at rates of 0.001 and, for the shared values, 0.0005. Raises
    ConfigError for a threshold: how much stays is a density here.
    """
    if recipe.threshold is not None:
        raise ConfigError("recipe: threshold: training prunes to a density; give a density instead")
    parts = spread(epochs, {"prune": 4, "retrain": 3, "share": 3})

    def stretch(epochs: int, rate: float) -> Training:
        return Training(epochs=epochs, learning_rate=rate, warmup_steps=min(100, epochs * steps_per_epoch // 10))

    default_bits = {"convolution": CONVOLUTION_BITS, "linear": LINEAR_BITS}
    bits = {name: recipe.for_layer("codebook_bits", name, default_bits[kind]) for name, kind in weights.items()}
    return Method(
        skip=recipe.skip,
        pruning=Pruning(
            density={name: recipe.for_layer("density", name, 1.0) for name in weights},
            schedule=Schedule.ITERATIVE,
            training=stretch(parts["prune"], 0.001),
            retraining=stretch(parts["retrain"], 0.001),
        ),
        sharing=Sharing(
            shared_values={name: 2**wide - 1 for name, wide in bits.items()},
            init={name: recipe.for_layer("init", name) for name in weights},
            codebook_format={name: recipe.for_layer("codebook_format", name) for name in weights},
            bias_format={name: recipe.for_layer("bias_format", name) for name in weights},
            training=stretch(parts["share"], 0.0005),
            seed=recipe.seed,
        ),
        storage=recipe.model_copy(update={"density": None, "init": "linear", "seed": 0, "skip": ()}),
        example_images=1,
    )


def load_recipe(name_or_path: str) -> TrainingRecipe:
    """A recipe from a YAML file, or the built-in one of an architecture's name, made for the bundled digits."""
    path = Path(name_or_path)
    if path.suffix == SUFFIX or path.exists():
        return load_yaml(TrainingRecipe, path)
    built_in = forgiven(name_or_path, ARCHITECTURES)
    if built_in is not None:
        return load_yaml(TrainingRecipe, Path(__file__).parent / f"{built_in}{SUFFIX}")
    raise ConfigError(
        f"recipe {name_or_path!r}: expected a YAML file or a built-in name; {nearest(name_or_path, ARCHITECTURES)}"
    )


def with_changes(recipe: TrainingRecipe, changes: Iterable[str]) -> TrainingRecipe:
    """The recipe with ``KEY=VALUE`` changes, keys dotted, values in YAML: ``pruning.density=0.02``."""
    for change in changes:
        recipe = recipe.replace(*parse_change(change, "pruning.density=0.02"))
    return recipe
