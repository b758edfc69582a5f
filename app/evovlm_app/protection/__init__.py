"""What every request passes: its host, route, login, body and inputs, checked before Gradio reads them."""
