"""The command ``diffsky lotss``: data of the LOFAR Two-metre Sky Survey."""

import click

__all__ = ["lotss"]


class _Center(click.ParamType):
    name = "position"

    def convert(self, value, param, ctx):
        from astropy.coordinates import SkyCoord

        try:
            return SkyCoord(value)
        except (TypeError, ValueError):
            example = "'13h40m +55d', or '205.0d +55.0d'"
            self.fail(f"{value!r} is no position; expected one such as {example}", param, ctx)


class _Angle(click.ParamType):
    name = "angle"

    def convert(self, value, param, ctx):
        import astropy.units as u

        try:
            return u.Quantity(value).to(u.deg)
        except (TypeError, ValueError):  # a unit that is no angle is a ValueError too
            self.fail(f"{value!r} is no angle; expected one such as 1deg or 30arcmin", param, ctx)


@click.group("lotss", no_args_is_help=False, short_help="Fetch mosaics and catalogue of LoTSS.")
def lotss():
    """Data of the LOFAR Two-metre Sky Survey (LoTSS)."""


@lotss.command("fetch", short_help="Download the mosaics and the catalogue of a cone.")
@click.argument("folder", type=click.Path(file_okay=False))
@click.option("--center", type=_Center(), required=True, help="Such as '13h40m +55d'.")
@click.option("--radius", type=_Angle(), required=True, help="Of the cone, such as 1deg.")
@click.option(
    "--n-mosaics", type=click.IntRange(min=1), help="Mosaics, the nearest first.  [default: all]"
)
@click.option("--no-catalog", is_flag=True, help="Fetch the mosaics alone.")
@click.option("--list", "only_list", is_flag=True, help="List the mosaics, and fetch nothing.")
@click.option("--mosaic-service", help="TAP service of the mosaics.  [default: ASTRON's]")
@click.option("--catalog-service", help="TAP service of the catalogue.  [default: VizieR's]")
def _fetch(folder, center, radius, no_catalog, only_list, mosaic_service, catalog_service, **how):
    """Download the mosaics of LoTSS DR2 that overlap a cone, and its sources, into FOLDER.

    A mosaic has 0.6 to 0.9 GB. The sources are those of Hardcastle et al. (2023). The folder gets
    mosaics/NAME.fits and catalog.fits. The same command goes on where it was interrupted.
    """
    from diffsky.generation.lotss import fetch_lotss, find_lotss_mosaics

    if only_list:
        found = find_lotss_mosaics(center, radius, service=mosaic_service, **how)
        for name, size in zip(found["name"], found["size"], strict=True):
            click.echo(f"{name:12} {size / 1e9:6.2f} GB")
        click.echo(f"mosaics: {len(found)}, {found['size'].sum() / 1e9:.2f} GB")
        return
    mosaics, catalog = fetch_lotss(
        folder,
        center=center,
        radius=radius,
        catalog=not no_catalog,
        mosaic_service=mosaic_service,
        catalog_service=catalog_service,
        **how,
    )
    click.echo(f"mosaics: {len(mosaics)}, in {mosaics[0].parent}")
    if catalog is not None:
        from astropy.io import fits

        click.echo(f"sources: {fits.getheader(catalog, 1)['NAXIS2']}, in {catalog}")
