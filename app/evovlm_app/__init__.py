"""The Gradio app: people look at sources and merged models side by side. Imports evovlm, never the reverse."""
