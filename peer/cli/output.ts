import type { NetworkError } from '../../common/errors.ts'
import { printable } from '../../common/ids.ts'
import { type NamedAgent, pasteable } from './hints.ts'
import type { Io, Terminal } from './io.ts'
import { noProgress, type Progress, TerminalProgress } from './progress.ts'
import { type Cell, type Column, renderTable } from './table.ts'
import { plain, STYLES, type Text } from './text.ts'

const LONGEST_TEXT = 4096

export interface Screen {
  /** of a table, its title included, that fit */
  readonly rows: number
  draw(columns: readonly Column[], rows: readonly (readonly Cell[])[]): void
}

/**
 * Everything that a command says. What it says is escaped here, whatever its origin: no escape sequence from a peer
 * reaches the terminal. With `json`, stdout gets one document and nothing else.
 */
export class Output {
  readonly json: boolean
  readonly #io: Io
  readonly #named: NamedAgent

  /** `named`: what commands in hints are given, too */
  constructor(io: Io, options: { json: boolean; named?: NamedAgent }) {
    this.#io = io
    this.json = options.json
    this.#named = options.named ?? {}
  }

  /** The answer as a document; only with --json. */
  document(value: unknown): void {
    if (this.json) this.#io.stdout.write(`${jsonText(value)}\n`)
  }

  /** One of many documents, in a line of its own; only with --json. */
  documentLine(value: unknown): void {
    if (this.json) this.#io.stdout.write(`${jsonText(value, 0)}\n`)
  }

  /** A line of the answer for people. */
  line(...parts: Text[]): void {
    if (!this.json) this.#io.stdout.write(`${this.#sentence(parts, 'stdout')}\n`)
  }

  /** A remark beside the answer, such as a service that was down. */
  note(...parts: Text[]): void {
    if (!this.json) this.#io.stderr.write(`${this.#sentence(parts, 'stderr')}\n`)
  }

  #sentence(parts: readonly Text[], on: 'stdout' | 'stderr'): string {
    const colour = showsColour(this.#io[on], this.#io)
    return parts.map((part) => paint(escaped(withText(part, pasteable(plain(part), this.#named))), colour)).join('')
  }

  table(columns: readonly Column[], rows: readonly (readonly Cell[])[], on: 'stdout' | 'stderr' = 'stdout'): void {
    if (this.json) return
    for (const line of this.#tableLines(columns, rows, on)) this.#io[on].write(`${line}\n`)
  }

  /** A table that is drawn again in its place each time; undefined where stdout is no terminal, or can't be drawn upon. */
  screen(): Screen | undefined {
    const { stdout, env } = this.#io
    if (this.json || !stdout.isTTY || env.TERM === 'dumb') return undefined
    let drawn = 0
    return {
      // The last line stays free for the cursor.
      rows: Math.max(1, (stdout.rows ?? 24) - 2),
      draw: (columns, rows) => {
        const lines = this.#tableLines(columns, rows, 'stdout')
        const back = drawn > 0 ? `\x1b[${drawn}A` : ''
        stdout.write(`${back}\r\x1b[J${lines.map((line) => `${line}\n`).join('')}`)
        drawn = lines.length
      },
    }
  }

  #tableLines(columns: readonly Column[], rows: readonly (readonly Cell[])[], on: 'stdout' | 'stderr'): string[] {
    const terminal = this.#io[on]
    return renderTable(
      columns,
      rows.map((row) => row.map(escapedCell)),
      {
        columns: terminal.isTTY ? (terminal.columns ?? 80) : undefined,
        paint: (text) => paint(text, showsColour(terminal, this.#io)),
      },
    )
  }

  /** Names and their values, aligned. */
  fields(pairs: readonly (readonly [string, ...Text[]])[]): void {
    const widest = Math.max(...pairs.map(([name]) => name.length))
    for (const [name, ...value] of pairs) this.line({ style: 'dim', text: name.padEnd(widest + 2) }, ...value)
  }

  /** A bar on the terminal; nothing where stderr is none. */
  progress(label: string): Progress {
    const { stderr, env } = this.#io
    if (this.json || !stderr.isTTY || env.TERM === 'dumb') return noProgress
    return new TerminalProgress(printable(label), stderr)
  }

  error(error: NetworkError): void {
    this.document(error.toBody())
    this.note({ style: 'red', text: 'peer:' }, ` ${error.message}`)
  }
}

/** JSON in which also those characters are escaped that JSON allows and terminals act upon. */
function jsonText(value: unknown, indent = 2): string {
  return JSON.stringify(value, null, indent).replace(/[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    [...Array(character.length).keys()]
      .map((i) => `\\u${character.charCodeAt(i).toString(16).padStart(4, '0')}`)
      .join(''),
  )
}

function escaped(text: Text): Text {
  return withText(text, printable(plain(text), LONGEST_TEXT))
}

/** Another text in the same style. */
function withText(like: Text, text: string): Text {
  return typeof like === 'string' ? text : { ...like, text }
}

function escapedCell(cell: Cell): Cell {
  return typeof cell === 'string' || 'style' in cell ? escaped(cell) : cell.map((line) => printable(line, LONGEST_TEXT))
}

function showsColour(terminal: Terminal, { env }: Io): boolean {
  return terminal.isTTY === true && !env.NO_COLOR && env.TERM !== 'dumb'
}

function paint(text: Text, colour: boolean): string {
  if (typeof text === 'string' || !colour || text.text === '') return plain(text)
  const [on, off] = STYLES[text.style]
  return `\x1b[${on}m${text.text}\x1b[${off}m`
}
