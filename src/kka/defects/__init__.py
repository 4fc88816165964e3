"""The words of defects: what inspectors call them, how a caption is read, and a grammar that writes captions."""
