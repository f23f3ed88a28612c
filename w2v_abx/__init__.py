"""w2v-abx: what does training a self-supervised speech model do to its phoneme discrimination?"""

__version__ = "0.1.0"
