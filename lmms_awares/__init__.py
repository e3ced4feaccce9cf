"""lmms-awares: how much does a vision-language model really need to see?"""

__version__ = "0.2.0"
