"""The binding of contracts to functions: what makes a function a taskiq task."""
