"""`w2v-abx analyze`, and analyses at the end of a training: which models, on which speech, what is left and what is refused."""
