"""A model and a trainer small enough for tests."""

from pathlib import Path
from typing import Any

import lightning

ARCHITECTURE: dict[str, Any] = {
    "model_type": "wav2vec2",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "conv_dim": [8, 8],
    "conv_kernel": [10, 32],
    "conv_stride": [10, 32],  # 50 Hz
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 2,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "layerdrop": 0.0,
}


def quiet_trainer(folder: Path, **settings: Any) -> lightning.Trainer:
    """A trainer on the CPU that writes nothing but what the test asks for."""
    quiet = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": folder,
    }
    return lightning.Trainer(**(quiet | settings))


def extract_all(*arguments: Any) -> dict[int, Any]:
    """The features of all ranks that `extract_in_memory` gives for these arguments, by layer."""
    from w2v_abx.features.extraction import extract_in_memory
    from w2v_abx.features.memory import gathered

    return dict(gathered(*extract_in_memory(*arguments)))
