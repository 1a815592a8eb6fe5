"""zennit's composites as the tests hold them, for inputs between 0 and 1."""

import lrp_ref as lrp

BOX = {"low": 0, "high": 1}
ZENNIT = {
    "epsilon_plus": lrp.presets.epsilon_plus(),
    "epsilon_plus_flat": lrp.presets.epsilon_plus_flat(),
    "epsilon_alpha2_beta1": lrp.presets.epsilon_alpha2_beta1(),
    "epsilon_alpha2_beta1_flat": lrp.presets.epsilon_alpha2_beta1_flat(),
    "epsilon_gamma_box": lrp.presets.epsilon_gamma_box(**BOX),
    "excitation_backprop": lrp.presets.excitation_backprop(),
}
