"""lmms-eval tasks: a YAML per benchmark and per group, all of one Task class (`awares_task.AwaresTask`)."""
