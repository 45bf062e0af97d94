"""The FIRST data set: real, and files that only look like it."""

import zipfile

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from diffsky.generation import FIRST_CLASSES, read_first

h5py = pytest.importorskip("h5py")


def write(path, *, images=None, labels=(0, 1, 3), splits=("train", "test", "train"), leave=()):
    images = np.arange(3)[:, None, None] + np.zeros((3, 20, 20)) if images is None else images
    with h5py.File(path, "w") as file:
        for k in (2, 0, 1):
            group = file.create_group(f"data_{k * 5}")
            columns = {
                "Img": np.asarray(images[k], dtype=np.uint8),
                "Label_literature": float(labels[k]),
                "Split_literature": splits[k],
            }
            for name, value in columns.items():
                if name not in leave:
                    group[name] = value
    return path


def test_split(tmp_path):
    path = write(tmp_path / "data.h5")
    train = read_first(path, "train", size=8)
    assert train.images.shape == (2, 8, 8)
    assert train.names == ["data_0", "data_10"]
    assert train.labels == ["FRI", "Bent"]
    assert_allclose(train.images[:, 0, 0], [0, 2 / 255])
    assert train.count() == {"FRI": 1, "FRII": 0, "Compact": 0, "Bent": 1}
    assert read_first(path, "test", size=8).labels == ["FRII"]


def test_images_without_a_source(tmp_path):
    images = np.zeros((3, 20, 20))
    images[[0, 2], 10, 10] = 255
    images[1, 0, 0] = 255
    path = write(tmp_path / "data.h5", images=images, splits=("train",) * 3)
    kept = read_first(path, "train", size=8).with_sources()
    assert kept.names == ["data_0", "data_10"]
    assert kept.labels == ["FRI", "Bent"]
    assert (kept.images.max(axis=(1, 2)) == 1).all()


def test_centre_is_kept(tmp_path):
    image = np.zeros((3, 20, 20))
    image[:, 10, 10] = 255
    path = write(tmp_path / "data.h5", images=image)
    cut = read_first(path, "test", size=8).images[0]
    assert cut[4, 4] == 1
    assert cut.sum() == 1


def test_zip_holds_the_same(tmp_path):
    path = write(tmp_path / "data.h5")
    with zipfile.ZipFile(tmp_path / "data.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(path, "data.h5")
    one, other = (read_first(p, "train", size=8) for p in (path, tmp_path / "data.zip"))
    assert_array_equal(one.images, other.images)
    with zipfile.ZipFile(tmp_path / "none.zip", "w") as archive:
        archive.writestr("readme", "text")
    with pytest.raises(ValueError, match=r"holds 0 files \*.h5; expected one"):
        read_first(tmp_path / "none.zip", "train")


def test_other_layouts(tmp_path):
    for key in ("Img", "Label_literature", "Split_literature"):
        path = write(tmp_path / f"{key}.h5", leave=(key,))
        with pytest.raises(ValueError, match=f"has no {key}; expected the layout"):
            read_first(path, "train", size=8)
    with h5py.File(tmp_path / "flat.h5", "w") as file:
        file["images"] = np.zeros((3, 8, 8))
    with pytest.raises(ValueError, match="images has no Img"):
        read_first(tmp_path / "flat.h5", "train")
    (tmp_path / "text.h5").write_text("text")
    with pytest.raises(ValueError, match="is no HDF5 file"):
        read_first(tmp_path / "text.h5", "train")
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_first(tmp_path / "none.h5", "train")


@pytest.mark.parametrize(
    ("label", "options", "message"),
    [
        (4, {}, "has the label 4.0; expected 0 to 3"),
        (np.nan, {}, "has the label nan"),
        (1, {"split": "all"}, "split is 'all'; expected one of train, valid, test"),
        (1, {"split": "valid"}, "has no images of the split 'valid'"),
        (1, {"size": 21}, "size is 21 for images of the shape"),
        (1, {"size": 4}, "size is 4"),
    ],
)
def test_refused(tmp_path, label, options, message):
    path = write(tmp_path / "data.h5", labels=(label, 1, 1))
    with pytest.raises(ValueError, match=message):
        read_first(path, **{"split": "train", "size": 8, **options})


def test_real_numbers(data_dir):
    counts = {}
    for split in ("train", "valid", "test"):
        images = read_first(data_dir / "first" / "galaxy_data_h5.zip", split)
        assert images.images.shape[1:] == (80, 80)
        # The peak of the whole image, but for lobes that are cut off.
        assert np.median(images.images.max(axis=(1, 2))) > 0.99
        counts[split] = images.count()
    assert [sum(one.values()) for one in counts.values()] == [1758, 200, 200]
    whole = {name: sum(one[name] for one in counts.values()) for name in FIRST_CLASSES}
    assert min(whole.values()) == 1392 / 4  # V24's balanced images
