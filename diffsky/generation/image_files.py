"""Generated images in a FITS file or a zarr store, written batch by batch."""

import json
import os
import shutil
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.nddata import CCDData
from astropy.table import QTable

from diffsky._writing import make_header, unit_text
from diffsky.generation.cubes import make_cube

__all__ = ["FitsImages", "ZarrImages", "image_file", "read_images"]

_RUN, _TABLE = "RUN", "CONDITION"
_FORMAT = "diffsky-images"
_BLOCK = 256  # images at a time


def image_file(path):
    """What writes and reads a file of images, by its name.

    Parameters
    ----------
    path : path-like
        Ends in ``.fits`` or ``.zarr``.

    Returns
    -------
    file : `FitsImages` or `ZarrImages`
        The file, which need not be there yet.

    Raises
    ------
    ValueError
        If it ends in something else.
    """
    path = Path(path).expanduser().resolve()
    kinds = {".fits": FitsImages, ".zarr": ZarrImages}
    if path.suffix.lower() not in kinds:
        raise ValueError(f"the images go to {path.name!r}; expected a name in .fits or .zarr")
    return kinds[path.suffix.lower()](path)


def read_images(path, n=None):
    """Read images that `diffsky.RadioGalaxyGenerator.write` wrote.

    Parameters
    ----------
    path : path-like
        The FITS file or zarr store.
    n : int or None, optional
        At most so many, the first ones. None, the default, reads all.

    Returns
    -------
    cube : `~astropy.nddata.CCDData`
        As from `diffsky.RadioGalaxyGenerator.sample`. Of a run that was interrupted, the images
        that it has drawn.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is no file of generated images, or none of them was drawn.
    """
    file = image_file(path)
    about, values = file.describe()
    drawn = file.count_drawn()
    if not drawn:
        raise ValueError(f"{file.path} has no image that was drawn")
    drawn = drawn if n is None else min(n, drawn)
    cube = make_cube(np.zeros((drawn, 1, 1)), values[:drawn], about["image"], about["run"])
    cube.meta.pop("n")
    return CCDData(file.read(drawn), unit=cube.unit, meta=cube.meta)


class _ImageFile:
    """What files of images have in common.

    There has to be room for all images when a file is made, so that a full disk is found before the
    first is drawn; a FITS file keeps it. Images that were not drawn are NaN.

    Parameters
    ----------
    path : `pathlib.Path`
        Where it is, or will be.
    """

    def __init__(self, path):
        self.path = path

    def prepare(self, about, values, *, resume=False, overwrite=False):
        """Make the file, or find out how far it is.

        Parameters
        ----------
        about : dict
            ``run``, what decides the images, with their number ``n``, ``image``, as from
            `diffsky.generation.cubes.describe_images`, and ``drawn_by``, what names and versions
            of the weights may not tell. In what JSON can hold.
        values : list of str or `~astropy.units.Quantity`
            Class or peak flux density of each image.
        resume : bool, optional
            Go on with a file of the same run.
        overwrite : bool, optional
            Replace a file that is there.

        Returns
        -------
        drawn : int
            Images that are there already.

        Raises
        ------
        FileExistsError
            If there is a file, and neither is asked for.
        ValueError
            If the file that shall be continued is of another run, or what shall be overwritten is a
            folder of something else.
        OSError
            If there is no room for all images; nothing is left behind.
        """
        if self.path.exists() and resume:
            self._check_same(about, values)
            return self.count_drawn()
        if self.path.exists() and not overwrite:
            raise FileExistsError(f"{self.path} is there; resume it or overwrite it")
        if self.path.is_dir():
            self.describe()  # refuses a folder of anything else
        self._create(about, values)
        return 0

    def _check_same(self, about, values):
        stored, held = self.describe()
        pairs = [{**one["run"], **one["image"], **one["drawn_by"]} for one in (stored, about)]
        keys = [key for key in {**pairs[0], **pairs[1]} if pairs[0].get(key) != pairs[1].get(key)]
        if keys:
            stored, asked = (", ".join(f"{key} {one.get(key)}" for key in keys) for one in pairs)
            raise ValueError(f"{self.path} holds images of {stored}; expected {asked}")
        if not np.array_equal(held, values):
            raise ValueError(f"{self.path} holds images of other labels or peaks than asked for")

    def _create(self, about, values):
        # Beside its final name, so that what is there stays until the new one is whole.
        fresh = self.path.with_name(f".writing-{os.getpid()}-{self.path.name}")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        old = self.path.with_name(f".old-{os.getpid()}-{self.path.name}")
        try:
            self._make(fresh, about, values)
            if self.path.is_dir():
                self.path.rename(old)
            _move(fresh, self.path)
        finally:
            if old.exists() and not self.path.exists():
                old.rename(self.path)
            _remove(fresh)
            _remove(old)

    def count_drawn(self):
        """Count the images up to the first that was not drawn.

        Returns
        -------
        drawn : int
            0 to the number of images.
        """
        marks = self._last_pixels()
        return int(np.append(np.isnan(marks), True).argmax())


class FitsImages(_ImageFile):
    """Images as the cube of a FITS file, with a table of what they were asked to be.

    Parameters
    ----------
    path : `pathlib.Path`
        Where it is, or will be.
    """

    def describe(self):
        """Read what the images are.

        Returns
        -------
        about : dict
            As `prepare` was given.
        values : list of str or `~astropy.units.Quantity`
            Likewise.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no file of generated images.
        """
        try:
            with fits.open(self.path) as file:
                about = json.loads(file[0].header[_RUN])
                column = QTable.read(file[_TABLE]).columns[0]
                if file[0].data.ndim != 3 or about["format"] != _FORMAT:
                    raise ValueError
        except FileNotFoundError:
            raise
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path} is no FITS file of generated images") from error
        return about, column if isinstance(column, u.Quantity) else list(map(str, column))

    def write(self, first, images):
        """Write some of the images to their places.

        Parameters
        ----------
        first : int
            Number of the first.
        images : `numpy.ndarray`
            Shape (n, ny, ny).

        Raises
        ------
        OSError
            If they cannot be written; all others stay as they are.
        """
        start, shape = self._place()
        with open(self.path, "r+b") as file:
            file.seek(start + 4 * first * shape[1] * shape[2])
            file.write(np.asarray(images, dtype=">f4").tobytes())
            file.flush()
            os.fsync(file.fileno())

    def read(self, drawn):
        """Read the first images.

        Parameters
        ----------
        drawn : int
            How many.

        Returns
        -------
        images : `numpy.ndarray`
            Shape (drawn, ny, ny), float32.
        """
        return np.array(self._map()[:drawn], dtype=np.float32)

    def _make(self, path, about, values):
        if not (isinstance(values, u.Quantity) or all(map(str.isascii, values))):
            raise ValueError(f"{self.path}: FITS has ASCII labels alone; expected a name in .zarr")
        cube = make_cube(np.zeros((1, 1, 1)), values[:1], about["image"], about["run"])
        size = about["image"]["size"]
        header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 3, "NAXIS1": size})
        header.update({"NAXIS2": size, "NAXIS3": len(values), "EXTEND": True})
        header["BUNIT"] = unit_text(cube.unit)
        header.extend(make_header(cube), update=True)
        if "pixel_scale" in about["image"]:
            header["PIXSCALE"] = (about["image"]["pixel_scale"], "[arcsec] side of a pixel")
        header[_RUN] = json.dumps({"format": _FORMAT, **about})
        name = "peak_flux" if isinstance(values, u.Quantity) else "label"
        with open(path, "xb") as file:
            file.write(header.tostring().encode("ascii"))
            _fill(file, len(values), np.full((size, size), np.nan, dtype=">f4").tobytes())
            file.write(bytes(-file.tell() % 2880))
        table = fits.table_to_hdu(QTable({name: values}))
        table.name = _TABLE
        fits.append(path, table.data, table.header, verify=False)

    def _place(self):
        with fits.open(self.path) as file:
            return file[0].fileinfo()["datLoc"], file[0].shape

    def _map(self):
        start, shape = self._place()
        return np.memmap(self.path, ">f4", "r", start, shape)

    def _last_pixels(self):
        return np.array(self._map()[:, -1, -1])


class ZarrImages(_ImageFile):
    """Images as a zarr group: the array ``images``, and what they were asked to be as attributes.

    Parameters
    ----------
    path : `pathlib.Path`
        Where it is, or will be.
    """

    def describe(self):
        """Read what the images are.

        Returns
        -------
        about : dict
            As `prepare` was given.
        values : list of str or `~astropy.units.Quantity`
            Likewise.

        Raises
        ------
        FileNotFoundError
            If there is no such store.
        ValueError
            If it is no store of generated images.
        """
        if not self.path.exists():
            raise FileNotFoundError(f"there is no {self.path}")
        try:
            about = json.loads((self.path / "zarr.json").read_text())["attributes"]
            values = about.pop("values")
            if about["format"] != _FORMAT or self._images("r").ndim != 3:
                raise ValueError
        except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
            raise ValueError(f"{self.path} is no zarr store of generated images") from error
        unit = about.pop("unit")
        return about, values if unit is None else values * u.Unit(unit)

    def write(self, first, images):
        """Write some of the images to their places.

        Parameters
        ----------
        first : int
            Number of the first.
        images : `numpy.ndarray`
            Shape (n, ny, ny).

        Raises
        ------
        OSError
            If they cannot be written; all others stay as they are.
        """
        self._images("r+")[first : first + len(images)] = images

    def read(self, drawn):
        """Read the first images.

        Parameters
        ----------
        drawn : int
            How many.

        Returns
        -------
        images : `numpy.ndarray`
            Shape (drawn, ny, ny), float32.
        """
        return self._images("r")[:drawn]

    def _make(self, path, about, values):
        import zarr

        size, unit = about["image"]["size"], None
        if isinstance(values, u.Quantity):
            values, unit = values.value.tolist(), values.unit.to_string()
        attributes = {"format": _FORMAT, **about, "values": values, "unit": unit}
        group = zarr.open_group(path, mode="w-", zarr_format=3, attributes=attributes)
        # One image a chunk, so that no write touches another image.
        group.create_array(
            "images",
            shape=(len(values), size, size),
            chunks=(1, size, size),
            dtype="float32",
            fill_value=np.nan,
            compressors=None,
        )
        with open(path / "room", "xb") as file:
            _fill(file, len(values), bytes(4 * size**2))
        (path / "room").unlink()

    def _images(self, mode):
        import zarr

        return zarr.open_array(self.path / "images", mode=mode)

    def _last_pixels(self):
        images = self._images("r")
        blocks = [images[k : k + _BLOCK, -1, -1] for k in range(0, images.shape[0], _BLOCK)]
        return np.concatenate(blocks)


def _fill(file, n, content):
    """Write the same content so many times, and see that it is on the disk."""
    for first in range(0, n, _BLOCK):
        file.write(content * min(_BLOCK, n - first))
    file.flush()
    os.fsync(file.fileno())


def _move(fresh, path):
    fresh.replace(path)


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
