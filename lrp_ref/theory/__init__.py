"""What relevance is compared with: messages, gradients, the deep Taylor decomposition."""

from . import dtd
from .gradients import gradient, gradient_x_input, integrated_gradients
from .messages import messages
from .properties import Claims, RuleFailed, check_rule
from .recursion import full_recursion

__all__ = [
    "Claims", "RuleFailed", "check_rule", "dtd", "full_recursion", "gradient", "gradient_x_input",
    "integrated_gradients", "messages",
]  # fmt: skip
