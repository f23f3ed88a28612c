"""Encoders: wav2vec 2.0 and its relatives, MFCCs, checkpoints, low-rank updates."""
