"""One file for each part of the input; each public function draws a case of one kind."""
