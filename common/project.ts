import { existsSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The project's own folder: the nearest one above this module with a package.json, whether built or run from source. */
export const PROJECT_ROOT = findRoot(dirname(fileURLToPath(import.meta.url)))

/** A file that ships with the project and is read as it is: a proto, a migration. */
export function projectFile(...parts: string[]): string {
  return join(PROJECT_ROOT, ...parts)
}

export const VERSION = (JSON.parse(readFileSync(projectFile('package.json'), 'utf8')) as { version: string }).version

function findRoot(dir: string): string {
  if (existsSync(join(dir, 'package.json'))) return dir
  const parent = dirname(dir)
  if (parent === dir) throw new Error('no package.json above the program')
  return findRoot(parent)
}
