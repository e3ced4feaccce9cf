"""lmms-eval tasks: six YAMLs and their group, all of one Task class (`awares_task.AwaresTask`)."""
