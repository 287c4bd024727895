import type { RootCommand } from '@bomb.sh/tab'
import tab from '@bomb.sh/tab/commander'
import type { Command } from 'commander'
import type { Cli } from './cli.ts'

/** Milliseconds that a person who pressed Tab waits at most for names from the network. */
const PATIENCE_MS = 700
/**
 * Shells paste what is offered into a command line, and some expand it on the way; so only names that no shell reads
 * as anything but themselves are offered. Spaces within are quoted, by the shell's script or here.
 */
const INERT = /^[\p{L}\p{N}_]([\p{L}\p{N}_.,+=@/ -]*[\p{L}\p{N}_.,+=@/-])?$/u
/** By which zsh's completion script says who asks. */
export const SHELL_VARIABLE = 'P2P_COMPLETION_SHELL'
const TAKES_NETWORK_FILE = ['download', 'locate']
const TAKES_LOCAL_FILE = ['upload', 'send', 'publish', 'hash']
const LOCAL_FILE_OPTIONS = ['--config', '--output', '-o', '--shared-dir', '--state-dir']
/** Tells the shell to complete files of this machine. */
const LOCAL_FILES = ':0\n'

export function define(command: Command, cli: Cli): void {
  command.argument('[words...]').action(async (typed: string[]) => {
    const words = unquoted(typed)
    if (wantsLocalFile(words)) {
      cli.io.stdout.write(LOCAL_FILES)
      return
    }
    // zsh takes what is offered for quoted already.
    const quote = (name: string) => (cli.io.env[SHELL_VARIABLE] === 'zsh' ? name.replaceAll(' ', '\\ ') : name)
    const tree = await completionTree(cli)
    const asked = TAKES_NETWORK_FILE.find((name) => words.includes(name))
    if (asked !== undefined) {
      const names = await fileNames(words.at(-1) ?? '', cli)
      tree.commands.get(asked)?.argument('file', (complete) => {
        for (const name of names) complete(quote(name), '')
      })
    }
    tree.parse([...words.slice(0, -1), quote(words.at(-1) ?? '')])
  })
}

/** The words as typed, with quoted spaces as such: fish leaves the backslash, zsh's script also splits the word there. */
function unquoted(words: readonly string[]): string[] {
  const whole: string[] = []
  for (const word of words) {
    const before = whole.at(-1)
    if (before?.endsWith('\\')) whole.splice(-1, 1, `${before.slice(0, -1)} ${word}`)
    else whole.push(word)
  }
  return whole.map((word) => word.replaceAll('\\ ', ' '))
}

/** Whether the last word, the one to be completed, is a path of this machine. */
function wantsLocalFile(words: readonly string[]): boolean {
  const last = words.at(-1) ?? ''
  const before = words.at(-2) ?? ''
  if (LOCAL_FILE_OPTIONS.includes(before)) return true
  return (
    words.length > 1 && TAKES_LOCAL_FILE.includes(words[0] ?? '') && !last.startsWith('-') && !before.startsWith('-')
  )
}

/** All commands and options in the form of the completion library. */
export async function completionTree(cli: Cli): Promise<RootCommand> {
  const program = await cli.wholeProgram(cli)
  const tree = tab(program, { completionCommandName: 'completion' })
  for (const command of tree.commands.values())
    for (const { long, required, description } of program.options) {
      if (long === undefined || long === '--version') continue
      if (required) command.option(long.slice(2), description, () => {})
      else command.option(long.slice(2), description)
    }
  return tree
}

/** Names in the network with this beginning; none where that takes too long. */
async function fileNames(beginning: string, cli: Cli): Promise<string[]> {
  const bound = AbortSignal.timeout(PATIENCE_MS)
  const late = new Promise<string[]>((resolve) => bound.addEventListener('abort', () => resolve([]), { once: true }))
  return Promise.race([late, knownNames(beginning, cli).catch(() => [])])
}

async function knownNames(beginning: string, cli: Cli): Promise<string[]> {
  const agent = await cli.agent()
  if (beginning !== '') return inert((await agent.locate({ q: beginning })).peers.map(({ file }) => file))
  const { maestro_url } = await agent.info()
  if (maestro_url === null) return []
  const { directory } = await (await cli.maestro(maestro_url)).directory({ limit: 100 })
  return inert(Object.keys(directory))
}

function inert(names: readonly string[]): string[] {
  return [...new Set(names)].filter((name) => INERT.test(name))
}
