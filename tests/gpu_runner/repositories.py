"""Training repositories of other people, as a newcomer brings them: look-alikes of public ones. Nothing runs them."""

from __future__ import annotations

from pathlib import Path

# An argparse trainer with dashes in its options, as nanochat's; its package lies beside scripts/.
DASHES = {
    "README.md": "# chat\n\n    torchrun --standalone --nproc_per_node=8 -m scripts.base_train -- --depth=12\n",
    "chat/__init__.py": "",
    "chat/gpt.py": "class GPT: ...\n",
    "chat/dataloader.py": "def batches(): ...\n",
    "scripts/base_eval.py": "print('eval')\n",
    "scripts/base_train.py": """
import argparse, os
from chat.gpt import GPT
from chat.dataloader import batches

parser = argparse.ArgumentParser()
parser.add_argument("--run", type=str, default="dummy", help="wandb run name")
parser.add_argument("--depth", type=int, default=20, help="layers of the model")
parser.add_argument("--num-iterations", type=int, default=-1, help="steps (-1 = work it out)")
parser.add_argument("--embedding-lr", type=float, default=3, help="of the embedding")
parser.add_argument("--schedule", choices=["cosine", "linear"], default="cosine")
parser.add_argument("--tie-embeddings", action="store_true", help="one matrix for both")
parser.add_argument("--swiglu", action="store_true", help="gated")
parser.add_argument("--seed", type=int, default=42)
parser.add_argument("--out-dir", default="out")
parser.add_argument("--eval-every", type=int, default=250)
args = parser.parse_args()
for step in range(args.num_iterations):
    loss.backward()
    print0(f"Step {step:05d} | Validation bpb: {val_bpb:.6f}")
    print0(f"step {step:05d}/{args.num_iterations:05d} ({pct:.2f}%) | loss: {loss:.6f} | dt: {dt:.2f}ms")
""",
}

# A script on Hugging Face's Trainer, with dataclasses of its own and transformers'.
TRAINER = {
    "train.py": """
from dataclasses import dataclass, field
from typing import Optional
import transformers
from transformers import HfArgumentParser, Trainer, TrainingArguments

@dataclass
class ModelArguments:
    hidden_size: int = field(default=512, metadata={"help": "Width of the model."})
    dropout: Optional[float] = field(default=0.1, metadata={"help": "Dropout."})
    name: str = "tiny"

@dataclass
class TrainingArguments(transformers.TrainingArguments):
    rope_theta: float = 10000

if __name__ == "__main__":
    parser = HfArgumentParser((ModelArguments, TrainingArguments))
    model_args, training_args = parser.parse_args_into_dataclasses()
    Trainer(args=training_args).train()
""",
}

# modded-nanogpt's way: torchrun, a class of numbers, shards with llm.c's header.
SPEEDRUN = {
    "README.md": "Run it: `torchrun --standalone --nproc_per_node=8 train_gpt.py`\n",
    "data/cached.py": "",
    "train_gpt.py": """
import os
from dataclasses import dataclass
from muon import Muon
rank = int(os.environ["RANK"])

def load(file):
    assert header[0] == 20240520, "magic number mismatch"

@dataclass
class Hyperparameters:
    train_files: str = "data/fineweb10B/fineweb_train_*.bin"
    val_files: str = "data/fineweb10B/fineweb_val_*.bin"
    num_iterations: int = 1770  # steps
    cooldown_frac: float = 0.4  # share of the run that cools down
    val_loss_every: int = 125
args = Hyperparameters()

@dataclass
class Stage:
    lr_mul: float = 1.0
stages = [Stage(lr_mul=2.0)]
loss.backward()
print0(f"step:{step}/{train_steps} val_loss:{val_loss:.4f} train_time:{time:.0f}ms", console=True)
""",
    "muon.py": "class Muon: ...\n",
}

# autoresearch's way: constants at the head, one block at the end, the budget in another file.
BLOCK = {
    "prepare.py": "TIME_BUDGET = 300\n",
    "train.py": """
from dataclasses import dataclass
from prepare import TIME_BUDGET
@dataclass
class GPTConfig:
    n_layer: int = 12
# Hyperparameters
DEPTH = 8               # number of transformer layers
TOTAL_BATCH_SIZE = 2**19 # tokens of a step
MATRIX_LR = 0.04
PATTERN = "SSSL"
PEAK_FLOPS = 989.5e12
torch.manual_seed(42)
config = GPTConfig(n_layer=DEPTH)
loss.backward()
print("---")
print(f"val_bpb:          {val_bpb:.6f}")
print(f"num_steps:        {step}")
""",
}

# lingua's way: OmegaConf over nested dataclasses and a file that the command line names.
OMEGA = {
    "apps/main/configs/debug.yaml": "steps: 100\noptim:\n    lr: 1e-3  # peak\n    warmup: 5\nmodel:\n    dim: 1_024\n",
    "apps/main/train.py": """
from dataclasses import dataclass, field
from omegaconf import OmegaConf
from lib.optim import OptimArgs

@dataclass
class ModelArgs:
    dim: int = 512
    n_layers: int = 8

@dataclass
class TrainArgs:
    dump_dir: str = ""
    seed: int = 42
    steps: int = 1000
    model: ModelArgs = field(default_factory=ModelArgs)
    optim: OptimArgs = field(default_factory=OptimArgs)

def main():
    cli_args = OmegaConf.from_cli()
    file_cfg = OmegaConf.load(cli_args.config)
    cfg = OmegaConf.merge(OmegaConf.structured(TrainArgs()), file_cfg, cli_args)
    loss.backward()
    logger.info("step: %d  loss: %.4f" % (step, loss.item()))

if __name__ == "__main__":
    main()
""",
    "lib/optim.py": """
from dataclasses import dataclass

@dataclass
class OptimArgs:
    lr: float = 3e-4
    warmup: int = 2000
""",
}


def brought(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder
