"""The answers of the run itself, by stage 1 and PyTorch, which a bundle's are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cropfirst.core.faces.crop import make_crop
from cropfirst.door.answers import answer_faces, order_faces
from cropfirst.door.detector import Found
from cropfirst.door.faces import Face
from cropfirst.door.manifest import Manifest
from cropfirst.stage1_detect.config import DetectConfig
from cropfirst.stage1_detect.mtcnn.retry import RetryingDetector
from cropfirst.stage2_classify.predict.ensemble_file import Ensemble
from cropfirst.stage2_classify.predict.predictor import Member
from cropfirst.stage2_classify.voting.blend import vote_members
from cropfirst.stage2_classify.voting.soft_vote import marginals, vote


@dataclass(frozen=True)
class PhotoAnswers:
    """The faces of one photo, and their crops in the same order."""

    faces: list[Face]
    crops: list[np.ndarray]


class RunAnswers:
    """The detector of stage 1 and the checkpoints of runs, on the CPU."""

    def __init__(self, voting: Ensemble, tasks: Sequence[str], config: DetectConfig) -> None:
        """Load everything.

        Args:
            voting: the checkpoints and how they vote.
            tasks: tasks that are answered.
            config: settings that the runs' crops were made with.
        """
        self._voting, self._tasks = voting, tuple(tasks)
        self._detector = RetryingDetector(config, device="cpu", threads=1)
        self._config = config
        self.members = [Member.load(folder, device="cpu") for folder in voting.found.folders]

    def answers(self, photo: np.ndarray, manifest: Manifest) -> PhotoAnswers:
        """Return what the runs say of every face of a photo, (H, W, 3) uint8 RGB."""
        result = self._detector.detect([photo])[0]
        found = Found(result.faces, "retried" if result.status == "retried" else "detected")
        height, width = photo.shape[:2]
        faces = order_faces(found, self._config.crop.select, height=height, width=width)
        crops = [
            make_crop(photo, np.asarray(face.box, np.float32), face.landmarks, self._config.crop)[0]
            for face in faces
        ]
        if not faces:
            return PhotoAnswers([], [])
        return PhotoAnswers(answer_faces(faces, crops, self.probabilities(crops), manifest), crops)

    def probabilities(self, crops: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return task -> (N, C) float32 probabilities after the vote and temperature."""
        schema = self._voting.found.schema
        joint = schema.combined.name if schema.combined else ""
        tables = []
        for member in self.members:
            own = member.predict_crops(crops)
            if joint in own:
                own |= {name: np.asarray(table, np.float32)
                        for name, table in marginals(own.pop(joint), schema).items()}  # fmt: skip
            tables.append({name: own[name] for name in self._tasks if name in own})
        if self._voting.plan is None:
            found = vote(tables, schema)
        else:
            found = vote_members(tables, self._voting.run_names, schema, self._voting.plan)
        return {task: np.asarray(found.probs[task], np.float32) for task in self._tasks}

    def checkpoints(self, run: Path) -> list[Member]:
        """Return the loaded checkpoints in a run's folder."""
        return [each for each in self.members if each.folder.resolve().is_relative_to(run)]
