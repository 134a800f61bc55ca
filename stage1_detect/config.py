"""Settings of stage 1. Field docstrings say unit, range and off-value; defaults live here alone."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cropfirst.configs import Config

Background = Literal["ellipse", "segment", "box", "photo", "center", "mean_box"]


class DetectorConfig(Config):
    """The cascade, with facenet-pytorch's names and meanings."""

    weights: str = "reference"
    """Weights of the three nets: `reference` (facenet-pytorch's), `masked` (those hardened for
    masked faces), or a .safetensors file."""
    min_face_size: int = Field(40, ge=12)
    """Smallest face to look for, in photo pixels (shorter side). Smaller is slower."""
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    """Scores that P-, R- and O-Net must pass, each in [0, 1]."""
    factor: float = Field(0.709, gt=0.1, lt=1.0)
    """Ratio of one pyramid level to the one before."""
    search: Literal["all", "largest"] = "all"
    """`all` faces, as facenet-pytorch does; or coarse to fine until a sure face is found that no
    smaller one can outgrow: several times faster where there is one large face, but `n_faces` then
    leaves out smaller ones."""

    @field_validator("thresholds")
    @classmethod
    def _in_range(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(0.0 <= threshold <= 1.0 for threshold in value):
            raise ValueError("each of the three thresholds must be in [0, 1]")
        return value


class RetryStep(Config):
    """One more try at the photos in which the steps before found nothing."""

    name: str
    """Kept with the row, so that each step's worth can be counted."""
    thresholds: tuple[float, float, float] = (0.5, 0.6, 0.5)
    """Relaxed scores for P-, R- and O-Net."""
    flip: bool = False
    """Look at the mirrored photo."""
    contrast: bool = False
    """Look at the photo with its local contrast evened out (CLAHE)."""
    scale: float = Field(1.0, gt=0.0, le=4.0)
    """Look at the photo enlarged by this factor (1 = as it is)."""


class DecodeConfig(Config):
    """Limits on what is read, against decompression bombs and endless files."""

    max_megapixels: float = Field(200.0, gt=0)
    """Photos with more pixels than this, in millions, are recorded as unreadable."""
    max_file_mb: float = Field(512.0, gt=0)
    """Files larger than this, in MB, are recorded as unreadable."""
    max_scans: int = Field(100, ge=1)
    """Progressive JPEGs with more scans than this are recorded as unreadable: each is a pass over
    all pixels (cameras and tools write about ten)."""


class CropConfig(Config):
    """Which face of a photo is kept, and what of the photo is kept with it."""

    background: Background = "ellipse"
    """Part of the photo that the crop shows. `ellipse`: all outside an ellipse on the face box is
    blank. `segment`: all that GrabCut does not take for the head is blank (an ellipse where it
    fails). `box`: a square around the face, its corners show the room. `photo` (whole), `center`
    (largest centred square) and `mean_box` (the data set's typical face box on every photo):
    baselines that keep the room."""
    image_size: int = Field(224, ge=16, le=2048)
    """Side of the square crop, in pixels."""
    margin: float = Field(0.1, ge=0.0, le=3.0)
    """Margin of the square around the face, as a fraction of the box's longer side."""
    ellipse_width: float = Field(1.0, gt=0.0, le=2.0)
    """Width of the kept ellipse, as a fraction of the box's width."""
    ellipse_height: float = Field(1.0, gt=0.0, le=2.0)
    """Height of the kept ellipse, as a fraction of the box's height."""
    align: bool = False
    """Rotate the crop so that the eyes are level (uses the landmarks)."""
    select: Literal["largest_over_threshold", "largest", "probability", "center_weighted_size"] = (
        "largest_over_threshold"
    )
    """Which face of several is the photo's main face; facenet-pytorch's selection methods."""
    min_agreement: float = Field(0.4, ge=0.0, le=1.0)
    """Where faces are placed alike, a face found by a retry must overlap the same person's other
    photos (or the typical place) by this IoU, else their box is used. 0 = believe every retry."""
    fill: int = Field(127, ge=0, le=255)
    """Grey value of what is blank."""

    @property
    def uses_box(self) -> bool:
        """Whether the crop depends on the box of the face."""
        return self.background not in {"photo", "center"}

    @property
    def uses_landmarks(self) -> bool:
        """Whether the crop depends on more of the landmarks than the eyes that `align` uses."""
        return self.background == "segment"


class DetectConfig(Config):
    """`cli.py detect`: all of stage 1."""

    detector: DetectorConfig = DetectorConfig()
    """The cascade."""
    retry: tuple[RetryStep, ...] = (
        RetryStep(name="relaxed"),
        RetryStep(name="flipped", flip=True),
        RetryStep(name="contrast", contrast=True),
    )
    """Tried in order on photos without a face; [] turns retries off. Chosen by measurement, see
    docs/detector.md."""
    decode: DecodeConfig = DecodeConfig()
    """Limits on what is read."""
    crop: CropConfig = CropConfig()
    """What is cut out and kept."""
    device: str = "auto"
    """Device of the networks: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""
    engine: Literal["auto", "numba", "torch"] = "auto"
    """Engine that runs the networks; `auto` is Numba on the CPU and PyTorch elsewhere. Changes the
    last bits of a box at most."""
    half: bool = False
    """Half-precision nets, on a GPU: faster, boxes differ by a pixel or so."""
    workers: int = Field(0, ge=0)
    """Threads that decode ahead of the detector; 0 = one a core."""
    batch_megapixels: float = Field(8.0, gt=0)
    """Pixels of photos detected at once, in millions (more suits large GPUs)."""
    memory_gb: float | None = Field(None, ge=1.0)
    """Memory that the run may take, in GB (1e9 bytes); null = half of the machine's. Batches shrink
    to fit; a photo that does not fit alone is recorded as unreadable, and tried again by every
    later run."""
    commit_photos: int = Field(256, ge=1)
    """Rows a commit; a kill loses at most the open commit."""

    @model_validator(mode="after")
    def _retry_names_differ(self) -> DetectConfig:
        names = [step.name for step in self.retry]
        if len(set(names)) != len(names):
            raise ValueError(f"retry steps must have different names, got {names}")
        return self

    def detection_key(self, weights_hash: str) -> dict[str, Any]:
        """All that decides a detection row; its fingerprint names the detection table."""
        detector = self.detector.model_dump(mode="json")
        detector["weights"] = weights_hash
        return {
            "detector": detector,
            "retry": [step.model_dump(mode="json") for step in self.retry],
            "decode": self.decode.model_dump(mode="json"),
        }

    def crop_key(self, weights_hash: str) -> dict[str, Any]:
        """All that decides a crop; its fingerprint names the crop set."""
        return {
            "detection": self.detection_key(weights_hash),
            "crop": self.crop.model_dump(mode="json"),
        }
