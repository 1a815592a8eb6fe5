"""What relevance is compared with: messages, gradients."""

from .gradients import gradient, gradient_x_input, integrated_gradients
from .messages import messages

__all__ = ["gradient", "gradient_x_input", "integrated_gradients", "messages"]
