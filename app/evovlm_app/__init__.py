"""The Gradio app, which shows sources and merged models side by side. Imports evovlm, never the reverse."""
