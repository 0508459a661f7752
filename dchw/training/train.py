"""``dchw.train``: Deep Compression with training for a module and data of one's own."""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize, prune

from dchw.compression.recipe import Recipe
from dchw.quantities import ConfigError, DchwError
from dchw.training.batches import Batches, Batching, GivenBatches
from dchw.training.checkpoint import Checkpoint
from dchw.training.course import Course, Evaluate, Trained, finished
from dchw.training.export import chosen, example_of, network_of, parameters_of
from dchw.training.loop import Distillation, Loss, Progress, no_progress
from dchw.training.module_weights import weights_of
from dchw.training.parametrizations import materialise
from dchw.training.recipe_file import Method, load_recipe, papers_method

DEFAULT_EPOCHS = 10


def train(
    module: nn.Module,
    batches: Iterable[Any],
    recipe: Recipe | Method | str | Path,
    *,
    loss: Loss,
    evaluate: Evaluate | None = None,
    epochs: int | None = None,
    distil: Distillation | None = None,
    device: str = "cpu",
    checkpoint: str | Path | None = None,
    on_progress: Progress = no_progress,
    seed: int = 0,
    name: str | None = None,
) -> Trained:
    """Prune, retrain, share and fine-tune any torch module, the Deep Compression way, and code the result.

    What is compressed is what `dchw.Network.from_module` finds to be layers: linear and convolutional layers,
    projections of attention and the like. Everything else (normalisation, embeddings, biases) trains along and is kept
    as it is. Batch normalisation is not folded, for its factors differ from channel to channel and would end the
    sharing, unless a training recipe folds it before anything is pruned (``fold_normalisation``).

    Parameters
    ----------
    module
        A module with trained weights, or one that the recipe's ``dense`` stage trains. It is copied and stays as it is.
    batches
        Any iterable of (inputs, targets) that every epoch goes through anew, such as a `torch.utils.data.DataLoader` or
        a list. Inputs are a tensor with the batch axis first or a tuple of them, the arguments of ``forward``. Random
        order and changes come from the global generators of torch, numpy and Python, which are seeded for every epoch
        (and given back), or from a `torch.Generator` that is the iterable's or its sampler's ``generator``.
    recipe
        A `dchw.Recipe` (density and codebook bits, for all layers or by name): the paper's method is made of it. Or a
        training recipe, as an object, a YAML file or a built-in name, whose settings by layer may be patterns
        (``block.*``); there stages, rates and scores are free.
    loss
        Takes what the module returns and a batch's targets; gives a tensor of one value.
    evaluate
        Takes a module in evaluation mode on ``device`` and gives a number; called for the dense, the pruned and the
        shared module.
    epochs
        Passes over the batches in all. A `dchw.Recipe` has 10 if none are given, 4 : 3 : 3 for pruning, retraining and
        fine-tuning; a training recipe keeps its own or, given a number, has them changed in proportion.
    distil
        Temperature and weight of learning from the dense module's class scores; without it the recipe's.
    device
        Where torch trains: ``cpu``, ``cuda``, ``mps``.
    checkpoint
        A file that is replaced after every epoch. If it is there, training goes on from it and ends with the same bits
        as an undisturbed one on the same machine; a finished one gives its result at once. At most one epoch is lost by
        Ctrl-C or a kill. Without it nothing is kept.
    on_progress
        Called as ``on_progress(task, done, total)`` after every epoch.
    seed
        Of everything random.
    name
        Of the compressed network; without it the recipe's or the module's class name.

    Returns
    -------
    Trained
        ``module`` with shared weights, ``compressed`` (a `dchw.CompressedNetwork`), ``history`` (loss of every epoch)
        and ``values`` (what ``evaluate`` gave).

    Raises
    ------
    DchwError
        For a module that cannot be followed or has nothing to compress, batches of another form, settings that fit no
        layer, a loss that is not finite, a checkpoint of another training.
    ConfigError
        For a recipe that does not fit.

    Examples
    --------
    >>> import dchw, torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    >>> inputs = torch.rand(64, 8, generator=torch.Generator().manual_seed(0))
    >>> batches = [(inputs[i : i + 16], (inputs[i : i + 16].sum(1) > 4).long()) for i in range(0, 64, 16)]
    >>> recipe = dchw.Recipe(density=0.5, codebook_bits=2)
    >>> trained = dchw.train(module, batches, recipe, loss=torch.nn.functional.cross_entropy, epochs=4)
    >>> trained.module[0].weight.unique().numel() <= 4
    True
    """
    check_device(device)
    source = GivenBatches(batches, seed=seed, device=device)
    prepared = own_copy(module).to(device)
    examples = example_of(source.first.inputs, 1)
    method, name = _method(recipe), name or getattr(recipe, "name", None) or type(module).__name__
    network = network_of(prepared, examples, name=name)  # what cannot be followed shows before the training
    skip = recipe.skip if isinstance(recipe, Recipe) else method.skip if method is not None else ()
    parameters, skipped = chosen(parameters_of(prepared, network), skip)
    if method is None:
        assert isinstance(recipe, Recipe)
        linear = {layer.parameter for layer in network.layers if layer.weight.ndim == 2}
        kinds = {
            weight.name: "linear" if weight.parameter in linear else "convolution"
            for weight in weights_of(prepared, parameters)
        }
        recipe.model_copy(update={"skip": ()}).check_layers(kinds)
        method = papers_method(
            recipe, kinds, epochs=DEFAULT_EPOCHS if epochs is None else epochs, steps_per_epoch=source.steps(Batching())
        )
    elif epochs is not None:
        method = method.with_epochs(epochs)
    if distil is not None:
        method = method.model_copy(update={"distillation": distil})
    if not parameters:
        raise DchwError(
            f"training of {name}: expected at least one linear, convolutional, attention or recurrent layer; found "
            "none; give a module that has weights to compress"
        )
    course = Course(
        module=prepared,
        method=method,
        batches=source,
        loss=loss,
        evaluate=evaluate,
        device=device,
        name=name,
        parameters=parameters,
        skipped=skipped,
        examples=example_of(source.first.inputs, max(method.example_images, 1)),
        checkpoint=Checkpoint(
            path=None if checkpoint is None else Path(checkpoint), plan=plan_of(method, prepared, source, seed=seed)
        ),
        progress=on_progress,
    )
    course.run()
    return finished(
        course,
        description={"training": method.model_dump(mode="json", exclude_defaults=True)},
        results={"seed": seed, **{key: round(value, 6) for key, value in course.values.items()}},
    )


def check_device(device: str) -> None:
    """Raise DchwError for a device that torch cannot use."""
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise DchwError(
            f"device {device!r}: expected one that torch can use here; {str(error).splitlines()[0]}; use cpu"
        ) from None


def plan_of(
    method: Method, module: nn.Module, batches: Batches, *, seed: int, parts: Collection[str] | None = None, **more: Any
) -> dict[str, Any]:
    """What makes a training another one, as plain values: settings, seed, shapes, updates per epoch.

    ``parts`` names the settings that matter; None: all.
    """
    first = method.dense or method.pruning.training
    return {
        "method": method.model_dump(mode="json", include=set(Method.model_fields if parts is None else parts)),
        "seed": seed,
        "steps_per_epoch": batches.steps(first),
        "module": {key: list(value.shape) for key, value in module.state_dict().items()},
        **more,
    }


def own_copy(module: nn.Module) -> nn.Module:
    """A copy of a module to train: weights that parametrizations or pruning compute become plain parameters."""
    if not isinstance(module, nn.Module):
        raise DchwError(f"training: expected a torch.nn.Module; got {type(module).__name__}; wrap it in one")
    computed = {
        id(value): value.detach().clone()
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, torch.Tensor) and not value.is_leaf
    }
    twin = copy.deepcopy(module, computed)
    for part in twin.modules():
        for hook in [*part._forward_pre_hooks.values()]:
            if isinstance(hook, prune.BasePruningMethod):
                prune.remove(part, hook._tensor_name)  # type: ignore[no-untyped-call]
    if any(parametrize.is_parametrized(part) for part in twin.modules()):
        materialise(twin)
    return twin


def _method(recipe: Recipe | Method | str | Path) -> Method | None:
    """The method that a recipe already is; None for one of compression, which a method is made of."""
    if isinstance(recipe, Recipe):
        return None
    if isinstance(recipe, str | Path):
        return load_recipe(str(recipe))
    if not isinstance(recipe, Method):
        raise ConfigError(
            f"recipe: expected a dchw.Recipe, a training recipe or the name of one; got {type(recipe).__name__}"
        )
    return recipe
