"""Options of policies as settings read them."""

from typing import Annotated

from pydantic import Field

from caesura.policy import OptionValue

Option = Annotated[OptionValue, Field(union_mode="left_to_right")]
"""What reads as a number is one."""
