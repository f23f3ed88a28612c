"""`python -m w2v_abx.distributed`: one rank of a job that another process describes."""

import os

from w2v_abx.distributed import follow
from w2v_abx.system import ending
from w2v_abx.system.streams import lasting_streams

if __name__ == "__main__":
    os.environ["HYDRA_FULL_ERROR"] = "1"  # as `w2v_abx.__main__` does
    ending.run(lasting_streams(0)(follow))  # work that is done; another status would be that of a rank that failed
