"""What is asked of an encoder: losses with their own parameters.

By label: `multilabel`, `utterance`, `framewise`, `ctc`. Without: `masked_prediction`, `contrastive`. A module for each,
and a config of the same name in ``conf/head``.
"""
