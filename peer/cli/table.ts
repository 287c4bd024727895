import { plain, type Styled, shorten, type Text, width } from './text.ts'

/** One text, or several lines of it. */
export type Cell = Text | readonly string[]

export interface Column {
  readonly title: string
  readonly align?: 'left' | 'right'
  /** may be shortened in the middle where the terminal is narrow */
  readonly shrinks?: boolean
}

const GAP = 2
const MIN_SHRUNK = 12
const MIN_ANY = 4
/**
 * Lines of a table with no frame. No cell has control characters; `paint` colours it once it has its final length.
 * `columns`: of the terminal; undefined where lines may be of any length.
 */
export function renderTable(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  options: { columns: number | undefined; paint: (text: Text) => string },
): string[] {
  const natural = columns.map(({ title }, i) =>
    Math.max(width(title), ...rows.map((row) => Math.max(0, ...linesOf(row[i]).map(width)))),
  )
  const widths = options.columns === undefined ? natural : widthsFor(columns, natural, options.columns)
  const head: Cell[] = columns.map(({ title }) => ({ style: 'dim', text: title }))
  return [head, ...rows].flatMap((row) => {
    const height = Math.max(1, ...row.map((cell) => linesOf(cell).length))
    return Array.from({ length: height }, (_, line) =>
      columns
        .map(({ align }, i) => {
          const cell = row[i]
          const text = shorten(linesOf(cell)[line] ?? '', widths[i] ?? 0)
          const space = ' '.repeat((widths[i] ?? 0) - width(text))
          const painted = options.paint(isStyled(cell) ? { ...cell, text } : text)
          return align === 'right' ? space + painted : painted + space
        })
        .join(' '.repeat(GAP))
        .trimEnd(),
    )
  })
}

function isStyled(cell: Cell | undefined): cell is Styled {
  return typeof cell === 'object' && 'style' in cell
}

function linesOf(cell: Cell | undefined): readonly string[] {
  if (cell === undefined) return []
  return typeof cell === 'string' || isStyled(cell) ? [plain(cell)] : cell
}

/** Takes columns away from the widest, first of those that may shrink, until the row fits. */
function widthsFor(columns: readonly Column[], natural: readonly number[], room: number): number[] {
  const widths = [...natural]
  const excess = () => widths.reduce((sum, w) => sum + w, GAP * (widths.length - 1)) - room
  for (const [may, floor] of [
    [(i: number) => columns[i]?.shrinks === true, MIN_SHRUNK],
    [() => true, MIN_ANY],
  ] as const)
    while (excess() > 0) {
      const widest = widths.reduce<number | undefined>(
        (best, w, i) => (may(i) && w > floor && (best === undefined || w > (widths[best] ?? 0)) ? i : best),
        undefined,
      )
      if (widest === undefined) break
      widths[widest] = (widths[widest] ?? 0) - 1
    }
  return widths
}
