import { interruption } from '../../common/lifecycle.ts'

/** What a command sees of the process that runs it; tests give their own. */
export interface Io {
  readonly stdout: Terminal
  readonly stderr: Terminal
  readonly env: Readonly<Record<string, string | undefined>>
  /** aborts at Ctrl-C */
  readonly signal: AbortSignal
}

export interface Terminal {
  write(text: string): unknown
  readonly isTTY?: boolean | undefined
  readonly columns?: number | undefined
  readonly rows?: number | undefined
}

/** The process itself. The first Ctrl-C lets the command end well; a later one ends it. */
export function processIo(): Io {
  // Who closes the pipe early (`peer list | head`) has what he wanted.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1))
  return { stdout: process.stdout, stderr: process.stderr, env: process.env, signal: interruption() }
}
