"""The FIRST data set of radio galaxies with classes (V24 section 3.2; Griese et al. 2023)."""

import contextlib
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["FIRST_CLASSES", "LabelledImages", "read_first"]

FIRST_CLASSES = ("FRI", "FRII", "Compact", "Bent")  # labels 0 to 3
SPLITS = ("train", "valid", "test")
SIZE = 80  # pixels that V24 crop the images to
_IMAGE, _LABEL, _SPLIT = "Img", "Label_literature", "Split_literature"


@dataclass(frozen=True)
class LabelledImages:
    """Images of radio galaxies with their classes.

    Parameters
    ----------
    images : `numpy.ndarray`
        Shape (n, ny, ny), float32, 0 to 1.
    labels : list of str
        Class of each.
    names : list of str
        Name of each in the data set.
    """

    images: np.ndarray
    labels: list
    names: list

    def __len__(self):
        """Images."""
        return len(self.images)

    def count(self):
        """Count the classes (V24 table 2).

        Returns
        -------
        counts : dict of str to int
            Images of each class.
        """
        return {name: self.labels.count(name) for name in FIRST_CLASSES}

    def with_sources(self):
        """Leave out the images without a pixel above the others.

        The sources of a few images lie outside of their central 80 x 80 pixels.

        Returns
        -------
        images : `LabelledImages`
            Those that have one.
        """
        kept = np.flatnonzero(np.ptp(self.images, axis=(1, 2)) > 0)
        labels, names = ([those[k] for k in kept] for those in (self.labels, self.names))
        return LabelledImages(self.images[kept], labels, names)


def read_first(path, split, *, size=SIZE):
    """Read one split of the FIRST data set.

    Parameters
    ----------
    path : str or path-like
        ``galaxy_data_h5.h5`` as it is published, or a zip file that holds it.
    split : {"train", "valid", "test"}
        Which images.
    size : int, optional
        Pixels of a side, cut out about the centre. Default 80, those of V24; the images have 300,
        of 1.8 arcsec.

    Returns
    -------
    images : `LabelledImages`
        In the order of the names.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If h5py is missing.
    ValueError
        If the split or the size is none of these, or the file has another layout.

    Notes
    -----
    Every image was scaled by its authors: pixels below three times the local rms are at that level,
    and the range of each image goes from 0 to 255.
    """
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(SPLITS)}")
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    images, labels, names = [], [], []
    with _open(path) as file:
        for name in sorted(file, key=_number):
            image, label, own = _entry(file, name, path)
            if own == split:
                images.append(_crop(image, size, path))
                labels.append(FIRST_CLASSES[label])
                names.append(name)
    if not images:
        raise ValueError(f"{path} has no images of the split {split!r}")
    return LabelledImages(np.array(images, dtype=np.float32) / 255, labels, names)


@contextlib.contextmanager
def _open(path):
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "reading the FIRST data set needs h5py: pip install diffsky-radio[survey]"
        ) from error
    with contextlib.ExitStack() as stack:
        source = path
        if zipfile.is_zipfile(path):
            archive = stack.enter_context(zipfile.ZipFile(path))
            found = [name for name in archive.namelist() if name.endswith(".h5")]
            if len(found) != 1:
                raise ValueError(f"{path} holds {len(found)} files *.h5; expected one")
            # Unpacked, since HDF5 jumps to and fro, which a packed stream is slow at.
            source = stack.enter_context(tempfile.TemporaryFile())
            shutil.copyfileobj(archive.open(found[0]), source)
        try:
            file = stack.enter_context(h5py.File(source, "r"))
        except OSError as error:
            raise ValueError(f"{path} is no HDF5 file: {error}") from error
        yield file


def _entry(file, name, path):
    group = file[name]
    missing = [
        key for key in (_IMAGE, _LABEL, _SPLIT) if not hasattr(group, "keys") or key not in group
    ]
    if missing:
        raise ValueError(
            f"{path}: {name} has no {', '.join(missing)}; expected the layout of the FIRST data "
            "set, a group for each image"
        )
    label, split = group[_LABEL][()], group[_SPLIT][()]
    if not (np.isfinite(label) and int(label) == label and 0 <= label < len(FIRST_CLASSES)):
        raise ValueError(f"{path}: {name} has the label {label}; expected 0 to 3")
    return group[_IMAGE][...], int(label), split.decode() if isinstance(split, bytes) else split


def _crop(image, size, path):
    if image.ndim != 2 or not 8 <= size <= min(image.shape):
        raise ValueError(
            f"size is {size} for images of the shape {image.shape} in {path}; expected 8 or more, "
            "and no more than they have"
        )
    top, left = ((n - size) // 2 for n in image.shape)
    return image[top : top + size, left : left + size]


def _number(name):
    """Order of data_2 before data_10."""
    digits = name.rpartition("_")[2]
    return (int(digits) if digits.isdecimal() else -1, name)
