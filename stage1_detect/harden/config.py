"""Settings of `harden`; the docstring of a field states its unit and range."""

from __future__ import annotations

from pydantic import Field, model_validator

from cropfirst.configs import Config


class PasteConfig(Config):
    """The shares of faces and photos that are changed, in [0, 1]."""

    worn: float = Field(0.35, ge=0.0, le=1.0)
    """Share of the bare faces that get a mask over nose, mouth and chin."""
    incorrect: float = Field(0.2, ge=0.0, le=1.0)
    """Share of the bare faces that get a mask which is worn wrongly or can be seen through."""
    occluded: float = Field(0.1, ge=0.0, le=1.0)
    """Share of the bare faces that are partly covered by a hand, a scarf, sunglasses or another
    object."""
    drawn: float = Field(0.5, ge=0.0, le=1.0)
    """Share of drawn masks among those pasted, if there are `--templates` too."""
    stray: float = Field(0.1, ge=0.0, le=1.0)
    """Share of the photos in which a mask that nobody wears is pasted; it is no face."""
    without: float = Field(0.05, ge=0.0, le=1.0)
    """Share of the photos in which all faces are painted out."""


class NetConfig(Config):
    """Training of one of the three nets."""

    rounds: int = Field(3, ge=1)
    """Number of rounds; each mines hard examples with the net as it is then."""
    views: int = Field(3000, ge=1)
    """Number of training views per round."""
    epochs: int = Field(2, ge=1)
    """Number of epochs per round, over the windows of the round."""
    batch_size: int = Field(256, ge=8)
    """Number of windows per step."""
    lr: float = Field(5e-4, gt=0.0)
    """Highest learning rate of AdamW, after a warm-up and before a cosine decay."""
    keep: float = Field(0.1, ge=0.0)
    """Weight of the loss that keeps a bare face's logit at the teacher's, so that NMS chooses the
    same box."""
    vary: bool = False
    """Whether the light of windows changes and a part of some is covered in each epoch. Windows
    whose target is the teacher's output are not changed."""


class HardenConfig(Config):
    """Settings of the command `harden`."""

    weights: str = "reference"
    """Weights of the teacher, from which the student starts: a name or a .safetensors file."""
    seed: int = 0
    """Seed of everything random."""
    min_face_size: int = Field(20, ge=12)
    """Smallest face to learn from, in photo pixels."""
    sure: float = Field(0.95, ge=0.0, le=1.0)
    """Score in [0, 1] from which on the teacher's faces are training targets."""
    paste: PasteConfig = PasteConfig()
    """Settings of pasting masks and other objects."""
    pnet: NetConfig = NetConfig(epochs=4, batch_size=512, lr=1e-3)
    """Training of P-Net, which proposes windows (12 pixels)."""
    rnet: NetConfig = NetConfig(batch_size=256)
    """Training of R-Net, which refines them (24 pixels)."""
    onet: NetConfig = NetConfig(rounds=5, epochs=4, batch_size=64, keep=0.3, vary=True)
    """Training of O-Net, which decides (48 pixels)."""
    boxed: float = Field(0.5, ge=0.0, le=1.0)
    """Share in [0, 1] of the views that show photos with boxes, if there are both kinds; apart from
    that all data sets get equal numbers of views."""
    folds: int = Field(10, ge=2)
    """Number of parts that the photos are divided into, by person if known."""
    fold: int | None = Field(0, ge=0)
    """Part that is held out and measured on, counted from 0; null = train on all photos and
    measure nothing."""
    device: str = "auto"
    """Device to train on: `auto` (CUDA if there is a GPU), `cpu`, `cuda` or `cuda:N`."""
    workers: int = Field(0, ge=0)
    """Number of threads that make the views; 0 means one per core."""

    @model_validator(mode="after")
    def _fold_is_one_of_the_folds(self) -> HardenConfig:
        if self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"fold must be below folds ({self.folds}), got {self.fold}")
        return self
