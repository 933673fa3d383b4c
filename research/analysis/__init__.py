"""What a trained network looks at: Grad-CAM."""
