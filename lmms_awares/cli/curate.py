"""`awares curate`."""

import typer

from lmms_awares.cli.curate_export import export
from lmms_awares.cli.curate_stats import stats

app = typer.Typer(help="Make training data: when to crop, where to crop, and the transcripts.", no_args_is_help=True)
app.command()(stats)
app.command()(export)
