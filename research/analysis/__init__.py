"""What a trained network looks at (Grad-CAM), and what a step needs and how fast it is: planned, and measured."""
