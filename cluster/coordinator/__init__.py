"""One collection as the routes see it: ordinary async code, testable without HTTP."""
