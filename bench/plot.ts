/** Lines over a common x axis, as a picture of its own: light background whatever the page's, no script, no font file. */
export interface Plot {
  title: string
  subtitle: string
  x: { label: string; max: number }
  y: { label: string; max: number }
  lines: Line[]
  /** vertical lines */
  marks: { at: number; label: string }[]
}

export interface Line {
  name: string
  points: readonly (readonly [number, number])[]
  /** what the others are compared with: drawn dashed, in grey */
  reference?: boolean
}

const WIDTH = 860
const HEIGHT = 480
const LEFT = 76
const RIGHT = 140
const TOP = 84
const BOTTOM = 58
/** distinguishable for colour-blind readers too: Okabe and Ito, with darker yellow */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#b8860b', '#7a3e9d', '#1b1b1b']
const INK = '#222222'
const FAINT = '#e3e3e3'
const GREY = '#777777'

/** @returns an SVG document */
export function svg({ title, subtitle, x, y, lines, marks }: Plot): string {
  const right = WIDTH - RIGHT
  const bottom = HEIGHT - BOTTOM
  const px = (value: number) => round(LEFT + (value / x.max) * (right - LEFT))
  const py = (value: number) => round(bottom - (value / y.max) * (bottom - TOP))
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" height="${HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="13" fill="${INK}">`,
    `<title>${text(title)}</title>`,
    `<rect width="${WIDTH}" height="${HEIGHT}" rx="6" fill="#ffffff"/>`,
    `<text x="${LEFT}" y="28" font-size="17" font-weight="600">${text(title)}</text>`,
    `<text x="${LEFT}" y="48" fill="${GREY}">${text(subtitle)}</text>`,
  ]
  for (const tick of ticks(x.max))
    out.push(
      `<line x1="${px(tick)}" y1="${TOP}" x2="${px(tick)}" y2="${bottom}" stroke="${FAINT}"/>`,
      `<text x="${px(tick)}" y="${bottom + 18}" text-anchor="middle">${tick}</text>`,
    )
  for (const tick of ticks(y.max))
    out.push(
      `<line x1="${LEFT}" y1="${py(tick)}" x2="${right}" y2="${py(tick)}" stroke="${FAINT}"/>`,
      `<text x="${LEFT - 8}" y="${py(tick) + 4}" text-anchor="end">${tick.toLocaleString('en-US')}</text>`,
    )
  out.push(
    `<path d="M${LEFT} ${TOP}V${bottom}H${right}" fill="none" stroke="${INK}"/>`,
    `<text x="${(LEFT + right) / 2}" y="${HEIGHT - 16}" text-anchor="middle">${text(x.label)}</text>`,
    `<text transform="translate(20 ${(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">${text(y.label)}</text>`,
  )
  for (const { at, label } of marks)
    out.push(
      `<line x1="${px(at)}" y1="${TOP}" x2="${px(at)}" y2="${bottom}" stroke="${INK}" stroke-dasharray="2 4"/>`,
      `<text x="${px(at)}" y="${TOP - 7}" text-anchor="middle">${text(label)}</text>`,
    )
  let colour = 0
  for (const [i, { name, points, reference }] of lines.entries()) {
    const stroke = reference ? GREY : COLOURS[colour++ % COLOURS.length]!
    const dash = reference ? ' stroke-dasharray="7 4"' : ''
    const path = points.map(([at, value]) => `${px(at)} ${py(value)}`).join('L')
    out.push(
      `<path d="M${path}" fill="none" stroke="${stroke}" stroke-width="1.8" stroke-linejoin="round"${dash}/>`,
      `<line x1="${right + 14}" y1="${TOP + 8 + 20 * i}" x2="${right + 36}" y2="${TOP + 8 + 20 * i}" stroke="${stroke}" stroke-width="2.5"${dash}/>`,
      `<text x="${right + 42}" y="${TOP + 12 + 20 * i}">${text(name)}</text>`,
    )
  }
  return `${out.join('\n')}\n</svg>\n`
}

/** Round numbers from 0 to `max`, some five of them. */
function ticks(max: number): number[] {
  const rough = max / 5
  const power = 10 ** Math.floor(Math.log10(rough))
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough) ?? rough
  return Array.from({ length: Math.floor(max / step + 1e-9) + 1 }, (_, i) => Number((i * step).toPrecision(6)))
}

function round(value: number): number {
  return Math.round(value * 10) / 10
}

function text(value: string): string {
  return value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}
