"""What happens inside a model: measures of its features."""

from w2v_abx.analysis.isotropy import Isotropy, iso_score, isotropy, mean_cosine, partition_ratio

__all__ = ["Isotropy", "iso_score", "isotropy", "mean_cosine", "partition_ratio"]
