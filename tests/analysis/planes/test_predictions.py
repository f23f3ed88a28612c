"""What heads take points for."""

from pathlib import Path

import numpy as np
import pytest
import torch
from speaking import head, model, speech

from w2v_abx.analysis import points as points_module
from w2v_abx.analysis.planes.predictions import outcomes, predict
from w2v_abx.analysis.points import Points
from w2v_abx.heads.readout import Kind


def slow(readout, store, points: Points, kind: str) -> list[str]:  # type: ignore[no-untyped-def]
    found = []
    for row, (file, onset, offset) in enumerate(points.items.frame.select("#file", "onset", "offset").iter_rows()):
        frames = [f for f in range(25) if float(onset) <= (f + 0.5) / 50 <= float(offset)]
        logits = readout({layer: store.clip(layer, file)[frames] for layer in readout.layers})
        best = [readout.outputs[i] for i in logits.argmax(-1).tolist()]
        counted = [name for name in best if name] if kind == "ctc" else best
        ranked = sorted(set(counted), key=lambda name: (-counted.count(name), readout.outputs.index(name)))
        found += [ranked[0] if ranked else ""] * int((points.item == row).sum())
    return found


@pytest.mark.parametrize(("kind", "outputs"), [("framewise", ("1", "2", "4")), ("ctc", ("", "1", "2", "4"))])
def test_a_segment_is_what_most_of_its_frames_are_taken_for(
    kind: Kind, outputs: tuple[str, ...], tmp_path: Path
) -> None:
    said = speech(tmp_path)
    readout = head(kind, (1, 2), outputs)
    store = model("after", said, tmp_path).store
    points = Points.draw(said.items, 50, "segments")
    assert predict(readout, store, points).tolist() == slow(readout, store, points, kind)


def test_a_frame_is_what_is_largest_there_and_batches_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, readout = speech(tmp_path), head()
    store = model("after", said, tmp_path).store
    points = Points.draw(said.items, 50, "frames", 20, seed=1)
    expected = readout({2: torch.from_numpy(points.vectors(store, 2))}).argmax(-1)
    found = predict(readout, store, points)
    assert found.tolist() == [readout.outputs[i] for i in expected]
    monkeypatch.setattr(points_module, "BATCH", 3)
    np.testing.assert_array_equal(predict(readout, store, points), found)


def test_outcomes(tmp_path: Path) -> None:
    said = speech(tmp_path, files=1)  # tones 1, 2, 4, 1
    points = Points.draw(said.items, 50, "segments")
    predicted = np.array(["1", "1", "", "2"])
    assert outcomes(head("ctc", outputs=("", "1", "2")), points, predicted).tolist() == ["right", "wrong", "-", "wrong"]
    assert outcomes(head("ctc", outputs=("", "1", "4")), points, predicted).tolist() == ["right", "-", "blank", "wrong"]
