"""The embedded world: a grammar of flower captions, a renderer that draws them, and tasks made of both."""
