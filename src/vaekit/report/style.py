"""The style sheet of a report: light or dark as the reader's system is, or by `data-theme` on the html element."""

LIGHT = (
    "color-scheme:light;--page:#fbfbfa;--card:#ffffff;--ink:#1d2430;--muted:#5b6675;--edge:#dfe3e8;--faint:#b4bcc6;--link:#0b57a8;--strong:#2469b3;"
    "--weak:#b9c3ce;--warn:#9a4a00;--warnbg:#fff4e5;--hint:#1f5c99;--hintbg:#eef5fc;--fine:#1d6b3c;--finebg:#ebf7ef;--code:#eef0f3;"
    "--c0:#1f77b4;--c1:#e07b16;--c2:#2c9a3f;--c3:#cf3030;--c4:#8a5fc0;--c5:#85594c;--c6:#d861b2;--c7:#6d7680;--c8:#a5a61c;--c9:#14a7b8"
)
DARK = (
    "color-scheme:dark;--page:#14171c;--card:#1c2027;--ink:#e6e9ee;--muted:#a0abb9;--edge:#323944;--faint:#5d6774;--link:#7fb8f5;--strong:#62a6ea;"
    "--weak:#4a5461;--warn:#ffbe78;--warnbg:#38280f;--hint:#9ccaf8;--hintbg:#182a3d;--fine:#8fdcab;--finebg:#15301f;--code:#2a303a;"
    "--c0:#62a6ea;--c1:#ffa04d;--c2:#5fce73;--c3:#ff7676;--c4:#bb98ee;--c5:#c99a8b;--c6:#f797d6;--c7:#a9b2bd;--c8:#d9da58;--c9:#4fd5e4"
)
STYLE = (
    ":root{"
    + LIGHT
    + "}@media(prefers-color-scheme:dark){:root{"
    + DARK
    + '}}:root[data-theme="light"]{'
    + LIGHT
    + '}:root[data-theme="dark"]{'
    + DARK
    + "}"
    """
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif}
main,header,footer{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:28px}
h1{font-size:26px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:19px;margin:0 0 10px}
h3{font-size:14px;font-weight:600;margin:0 0 6px}
p{margin:0 0 12px;max-width:78ch;overflow-wrap:break-word}
a{color:var(--link)}
.sub{color:var(--muted);margin:0 0 14px;overflow-wrap:anywhere}
nav{display:flex;flex-wrap:wrap;gap:4px 16px;margin-bottom:18px;font-size:14px}
section{background:var(--card);border:1px solid var(--edge);border-radius:10px;padding:18px 20px 8px;margin:0 0 18px}
code,pre{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.9em;background:var(--code);border-radius:4px}
code{padding:1px 4px;overflow-wrap:anywhere}
pre{padding:10px 12px;margin:0 0 14px;white-space:pre-wrap;overflow-wrap:anywhere}
.facts{display:grid;grid-template-columns:fit-content(46%) minmax(0,1fr);gap:4px 18px;margin:0 0 14px}
.facts dt{color:var(--muted)}
.facts dd{margin:0;overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:10px;margin:0 0 14px}
.tiles div{border:1px solid var(--edge);border-radius:8px;padding:8px 12px}
.tiles dt{color:var(--muted);font-size:13px}
.tiles dd{margin:0;font-size:18px;font-weight:600;font-variant-numeric:tabular-nums}
.wide{overflow-x:auto;margin:0 0 14px}
table{border-collapse:collapse}
th,td{text-align:right;padding:4px 16px 4px 0;border-bottom:1px solid var(--edge);font-variant-numeric:tabular-nums;vertical-align:top}
th{color:var(--muted);font-weight:500;font-size:13px}
th:first-child,td:first-child{text-align:left}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,300px),1fr));gap:18px 24px;margin:0 0 14px;align-items:start}
figure{margin:0 0 14px;min-width:0}
.charts figure{margin:0;max-width:440px}
figcaption{color:var(--muted);font-size:13px;margin-top:4px;max-width:78ch}
svg{display:block;width:100%;height:auto}
svg text{font-size:11px;fill:var(--muted);font-family:inherit}
svg .grid{stroke:var(--edge);stroke-width:1;fill:none}
svg .frame{fill:none;stroke:var(--edge)}
svg .line{fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
svg .dots{fill:none;stroke-linecap:round}
svg .bar{fill:var(--strong)}
svg .weak{fill:var(--weak)}
svg .limit{stroke:var(--muted);stroke-dasharray:4 3;fill:none}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;list-style:none;margin:4px 0 0;padding:0;font-size:13px;color:var(--muted)}
.legend i{display:inline-block;width:10px;height:10px;border-radius:5px;margin-right:5px}
img{display:block;max-width:100%;height:auto}
.sharp{image-rendering:pixelated}
.strips{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:6px 16px;align-items:center;margin:0 0 14px}
.strips span{color:var(--muted);font-size:13px}
.scale{display:flex;align-items:center;gap:8px;font-size:13px;color:var(--muted);margin:0 0 16px}
.scale i{display:inline-block;width:160px;height:12px;border-radius:3px}
.notices{list-style:none;padding:0;margin:0 0 12px;display:grid;gap:8px}
.notices li{border-left:4px solid;border-radius:4px;padding:8px 12px;overflow-wrap:break-word}
.notices b{margin-right:6px}
.notices code{background:none;padding:0;font-weight:600}
.warning{background:var(--warnbg);border-color:var(--warn)!important}.warning b{color:var(--warn)}
.hint{background:var(--hintbg);border-color:var(--hint)!important}.hint b{color:var(--hint)}
.fine{background:var(--finebg);border-color:var(--fine)!important}.fine b{color:var(--fine)}
footer{color:var(--muted);font-size:13px;padding-bottom:28px}
@media(max-width:640px){main,header,footer{padding-left:12px;padding-right:12px}section{padding:14px 12px 4px}
.facts,.strips{grid-template-columns:minmax(0,1fr);gap:0}
.facts dd,.strips img{margin-bottom:8px}h1{font-size:22px}}
@media print{body{background:#fff}section{break-inside:avoid-page;border:0;padding:0}nav{display:none}}
"""
)
