"""What of a study does not fit what there is: networks, machines, keys, names in conditions."""

from __future__ import annotations

from dchw.compression.recipe import Recipe
from dchw.graph.network import Network
from dchw.quantities import ConfigError, DchwError
from dchw.studies.columns import BOUND, METRICS
from dchw.studies.expressions import Expression
from dchw.studies.points import MACHINE, NETWORK
from dchw.studies.settings import RECIPE_PREFIX, RUN_KEYS, TRAINING_PREFIX, StudySettings
from dchw.studies.simulated import SimulatedPoints
from dchw.studies.trained import is_training


def faults(settings: StudySettings, points: SimulatedPoints) -> list[str]:
    """What does not fit of a study's names: networks, machines, keys, names in conditions; all of it at once."""
    found = []
    for name in settings.networks:
        try:
            source = points.networks.source(name)
            if isinstance(source, Network) and not settings.recipes and not _recipe_keys(settings):
                found.append(f"networks: {name} is not compressed; add recipes, or compress it first")
        except DchwError as error:
            found.append(f"networks: {error}")
    for key in _recipe_keys(settings):
        for value in settings.choices(key):
            try:
                Recipe().replace(key.removeprefix(RECIPE_PREFIX), value)
            except ConfigError as error:
                found.append(f"vary.{key}: {error}")
    if settings.weights == "seeded" and not settings.recipes and not _recipe_keys(settings):
        found.append("weights: seeded ones are compressed by a recipe; add recipes or vary one, such as recipe.density")
    found += [*_training_faults(settings, points), *_machine_faults(settings, points)]
    known = {*points.space.keys, *METRICS, BOUND}
    keys = set(points.space.keys)
    for text in settings.only:
        unknown = Expression(text).names - known
        found += [f"only: {text!r}: nothing varies or comes out under the name {name!r}" for name in sorted(unknown)]
    for key, text in settings.derive.items():
        unknown = Expression(text).names - keys
        found += [f"derive.{key}: {text!r}: nothing varies under the name {name!r}" for name in sorted(unknown)]
    return found


def _recipe_keys(settings: StudySettings) -> list[str]:
    return [key for key in settings.vary if key.startswith(RECIPE_PREFIX)]


def _training_faults(settings: StudySettings, points: SimulatedPoints) -> list[str]:
    """What does not fit of trainings: recipes that lack something, data that is not there, keys and values."""
    found = []
    keys = [key for key in settings.vary if key.startswith(TRAINING_PREFIX)]
    for name in settings.networks:
        if not is_training(name):
            found += [f"vary.{key}: {name} is trained already; name a training recipe (.yaml) instead" for key in keys]
            continue
        try:
            points.networks.sha(name)  # reads the recipe and its data
        except ConfigError:
            continue  # a fault of its file, which is among those of the networks
        except DchwError as error:
            found.append(f"networks: {name}: {error}")
            continue
        for key in keys:
            for value in settings.choices(key):
                try:
                    points.networks.training({NETWORK: name, key: value})
                except ConfigError as error:
                    if "(top)" not in str(error):
                        found.append(f"vary.{key} = {value}: {error}")
    return found


def _machine_faults(settings: StudySettings, points: SimulatedPoints) -> list[str]:
    found = []
    others = (RECIPE_PREFIX, TRAINING_PREFIX)
    own = [key for key in settings.vary if key not in RUN_KEYS and not key.startswith(others)]
    for name in settings.machines:
        try:
            base = points.machine({MACHINE: name})
        except ConfigError as error:
            found.append(f"machines: {error}")
            continue
        asked = [(key, value) for key, value in settings.set.items()]
        asked += [(key, value) for key in own for value in settings.choices(key)]
        for key, value in asked:
            try:
                base.replace(key, value)
            except ConfigError as error:
                # what only fails beside other fields may fit once they change too: that is a point's matter
                if "(top)" not in str(error):
                    found.append(f"{key} = {value}: {error}")
        for key in settings.derive:
            try:
                base.replace(key, None)
            except ConfigError as error:
                if "no such" in str(error):
                    found.append(f"derive.{key}: {error}")
    return list(dict.fromkeys(found))
