import { spawnSync } from 'node:child_process'
import { expect, test } from 'vitest'
import { projectFile } from '../common/project.ts'

const script = (...args: string[]) => spawnSync(projectFile('scripts/start_component.sh'), args, { encoding: 'utf8' })

test('start_component.sh --help is an answer on stdout, and no failure', () => {
  expect(script('--help')).toMatchObject({ status: 0, stdout: expect.stringMatching(/^usage: /), stderr: '' })
})

test.each([[[]], [['peer4']]])('start_component.sh %j shows its usage on stderr, exit 2', (args) => {
  expect(script(...args)).toMatchObject({ status: 2, stdout: '', stderr: expect.stringMatching(/^usage: /) })
})
