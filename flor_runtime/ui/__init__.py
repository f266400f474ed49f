"""Screens. What is shown is plain data (`runs`, `curves`, `names`, `versions`, `plans`); how, is for `app` (marimo),
`charts` and `page` (altair, a static file), and `server` hands the application to this machine's browser only."""
