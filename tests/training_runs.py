"""Short training runs."""

from ghostnote.models.config import PRESETS
from ghostnote.models.data.dataset import Sources
from ghostnote.models.training.trainer import Recipe, Trainer

RECIPE = Recipe(steps=6, clips=2, tokens=48, warmup_steps=2, validation_every=3, validation_batches=1)


def trainer(folder, recipe=RECIPE, preset="tiny", parent=None, **options):
    return Trainer(PRESETS[preset], recipe, Sources(), folder, {"recipe_of": "a test"}, parent, **options)
