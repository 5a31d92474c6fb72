"""The measurement of shear biases: images that shine did not draw, through its usual road."""
