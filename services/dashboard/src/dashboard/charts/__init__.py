"""Charts: drawn by pygal on the server as plain SVG, so that they need no script, no inline style and nobody's CDN."""
