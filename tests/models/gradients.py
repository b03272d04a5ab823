"""Run by test_training.py, alone or as one of several processes: the gradients of one step on batch 0.

Written to a file.

usage: gradients.py FOLDER OUT
"""

import sys
from pathlib import Path

import torch

from ghostnote.models.config import PRESETS
from ghostnote.models.data.dataset import Sources
from ghostnote.models.training.trainer import Recipe, Trainer


def main() -> None:
    folder, out = Path(sys.argv[1]), Path(sys.argv[2])
    recipe = Recipe(clips=4, tokens=48)
    trainer = Trainer(PRESETS["tiny"], recipe, Sources(), folder, {})
    parts = trainer.module(trainer._dataset("train", 0)[0])
    trainer.accelerator.backward(parts["loss"])
    if trainer.accelerator.is_main_process:
        module = trainer.accelerator.unwrap_model(trainer.module)
        gradients = {name: p.grad for name, p in module.named_parameters()}
        torch.save({"processes": trainer.accelerator.num_processes, "gradients": gradients}, out)
    trainer.accelerator.wait_for_everyone()  # one that leaves early can be aborted by gloo's threads
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
