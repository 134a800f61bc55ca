"""Settings of stage 1. Each field says its unit, range and off-value; defaults are only here."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cropfirst.configs import Config

Background = Literal["ellipse", "segment", "box", "photo", "center", "mean_box"]


class DetectorConfig(Config):
    """Settings of the detector MTCNN, with facenet-pytorch's names and meanings."""

    weights: str = "auto"
    """Weights of the networks: `reference` (facenet-pytorch's, box for box), `masked` (trained to
    find masked faces), `joined` (both: finds most faces of either kind, for about a quarter more
    time), or a .safetensors file. `auto`: those of the crops that the cache has, else `joined`."""
    min_face_size: int = Field(40, ge=12)
    """Smallest face to find: its shorter side in photo pixels. Smaller is slower."""
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)
    """Scores that P-, R- and O-Net must pass, each in [0, 1]."""
    factor: float = Field(0.709, gt=0.1, lt=1.0)
    """Ratio of the size of one pyramid level to the level before, in (0.1, 1)."""
    search: Literal["all", "largest"] = "all"
    """Faces to search for: `all`, as facenet-pytorch does; or `largest`, from large to small until
    a certain face is found that no smaller one can exceed. That is several times faster for
    portraits, but `n_faces` does not count smaller faces."""

    @field_validator("thresholds")
    @classmethod
    def _in_range(cls, value: tuple[float, float, float]) -> tuple[float, float, float]:
        if not all(0.0 <= threshold <= 1.0 for threshold in value):
            raise ValueError("each of the three thresholds must be in [0, 1]")
        return value


class RetryStep(Config):
    """A further search in the photos in which the steps before found no face."""

    name: str
    """Name of the step, which is kept in the row of a photo whose face it found."""
    thresholds: tuple[float, float, float] = (0.5, 0.6, 0.5)
    """Scores that P-, R- and O-Net must pass in this step, each in [0, 1]."""
    flip: bool = False
    """Search the mirrored photo."""
    contrast: bool = False
    """Search the photo with equalised local contrast (CLAHE)."""
    scale: float = Field(1.0, gt=0.0, le=4.0)
    """Search the photo enlarged by this factor, in (0, 4]; 1 keeps its size."""


class DecodeConfig(Config):
    """Limits of decoding, against decompression bombs and very large files."""

    max_megapixels: float = Field(200.0, gt=0)
    """Largest number of pixels, in millions; a larger photo is recorded as unreadable."""
    max_file_mb: float = Field(512.0, gt=0)
    """Largest file in MB; a larger one is recorded as unreadable."""
    max_scans: int = Field(100, ge=1)
    """Largest number of scans of a progressive JPEG; a file with more is recorded as unreadable,
    since each scan is a pass over all pixels (cameras and tools write about ten)."""


class CropConfig(Config):
    """Settings of the crop: the main face, and what is kept around it."""

    background: Background = "ellipse"
    """Part of the photo that the crop shows. `ellipse`: everything outside an ellipse on the face
    box is blank. `segment`: everything that GrabCut does not assign to the head is blank (an
    ellipse if it fails). `box`: a square around the face, whose corners show the background.
    Baselines with background: `photo` (the complete photo), `center` (its largest centred square)
    and `mean_box` (the data set's typical face box in every photo)."""
    image_size: int = Field(224, ge=16, le=2048)
    """Side of the square crop, in pixels."""
    margin: float = Field(0.1, ge=0.0, le=3.0)
    """Margin of the square around the face, as a fraction of the box's longer side, 0 to 3."""
    ellipse_width: float = Field(1.0, gt=0.0, le=2.0)
    """Width of the kept ellipse, as a fraction of the box's width."""
    ellipse_height: float = Field(1.0, gt=0.0, le=2.0)
    """Height of the kept ellipse, as a fraction of the box's height."""
    align: bool = False
    """Rotate the crop so that the eyes are level (uses the landmarks)."""
    select: Literal["largest_over_threshold", "largest", "probability", "center_weighted_size"] = (
        "largest_over_threshold"
    )
    """The way to select the main face from several; facenet-pytorch's selection methods."""
    min_agreement: float = Field(0.4, ge=0.0, le=1.0)
    """Smallest IoU, 0 to 1, of a face found by a retry with the box of the same person's other
    photos (or the typical box), which is used otherwise. Only checked if most faces of the data
    set are at a similar place; 0 accepts every retry."""
    fill: int = Field(127, ge=0, le=255)
    """Grey value of blank pixels, 0 to 255."""

    @property
    def uses_box(self) -> bool:
        """Whether the crop depends on the box of the face."""
        return self.background not in {"photo", "center"}

    @property
    def uses_landmarks(self) -> bool:
        """Whether the crop depends on more of the landmarks than the eyes that `align` uses."""
        return self.background == "segment"


class SwapConfig(Config):
    """Settings of the swapped twin (`--swap-rooms`): heads in the rooms of other people."""

    draws: int = Field(1, ge=1, le=1000)
    """Number of rooms that each head is set into. More draws make scores less noisy and change no
    earlier one; further draws that are in the cache are kept."""
    seed: int = Field(0, ge=0)
    """Random seed for choosing the rooms. Another seed makes all draws again."""


class DetectConfig(Config):
    """Settings of stage 1, the command `detect`."""

    detector: DetectorConfig = DetectorConfig()
    """Settings of the detector."""
    retry: tuple[RetryStep, ...] = (
        RetryStep(name="relaxed"),
        RetryStep(name="flipped", flip=True),
        RetryStep(name="contrast", contrast=True),
    )
    """Further searches in photos without a face, in this order; [] turns them off. Chosen by
    measurement, see docs/detector.md."""
    decode: DecodeConfig = DecodeConfig()
    """Limits of decoding."""
    crop: CropConfig = CropConfig()
    """Settings of the crop."""
    swap: SwapConfig = SwapConfig()
    """Settings of the swapped twin."""
    device: str = "auto"
    """Device of the networks: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."""
    engine: Literal["auto", "numba", "torch"] = "auto"
    """Engine that runs the networks; `auto` is Numba on the CPU and PyTorch elsewhere. Changes the
    last bits of a box at most."""
    half: bool = False
    """Run the networks in half precision on a GPU: faster; boxes differ by about a pixel."""
    workers: int = Field(0, ge=0)
    """Number of threads that decode and crop; 0 means one per core."""
    batch_megapixels: float = Field(8.0, gt=0)
    """Largest number of pixels of a batch of photos, in millions; a large GPU needs more."""
    memory_gb: float | None = Field(None, ge=1.0)
    """Memory that the run may take, in GB (1e9 bytes); null = half of the machine's. Batches
    shrink to fit; a photo that does not fit alone is recorded as unreadable, and read again by
    every later run."""
    max_missing: float = Field(0.5, ge=0.0, le=1.0)
    """Largest share, 0 to 1, of the photos with crops that may be gone. If more are, a disk may not
    be mounted, and the run ends before it changes anything; 1 allows all to be gone."""
    commit_photos: int = Field(256, ge=1)
    """Number of rows per commit; a kill loses at most the open commit."""

    @model_validator(mode="after")
    def _retry_names_differ(self) -> DetectConfig:
        names = [step.name for step in self.retry]
        if len(set(names)) != len(names):
            raise ValueError(f"retry steps must have different names, got {names}")
        return self

    def detection_key(self, weights_hash: str) -> dict[str, Any]:
        """Return all that decides a detection row; its fingerprint names the detection table."""
        detector = self.detector.model_dump(mode="json")
        detector["weights"] = weights_hash
        return {
            "detector": detector,
            "retry": [step.model_dump(mode="json") for step in self.retry],
            "decode": self.decode.model_dump(mode="json"),
        }

    def crop_key(self, weights_hash: str) -> dict[str, Any]:
        """Return all that decides a crop; its fingerprint names the crop set."""
        return {
            "detection": self.detection_key(weights_hash),
            "crop": self.crop.model_dump(mode="json"),
        }
