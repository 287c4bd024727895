import type { Command } from 'commander'
import type { Cli } from './cli.ts'
import { completionTree, SHELL_VARIABLE } from './complete.ts'

const SHELLS = ['bash', 'zsh', 'fish', 'powershell']

export function define(command: Command, cli: Cli): void {
  command
    .addArgument(command.createArgument('<shell>').choices(SHELLS))
    .addHelpText(
      'after',
      `
Completes commands, options, and the names of files in the network. It prints a script for your shell:
  bash         source <(peer completion bash)        add it to ~/.bashrc
  zsh          source <(peer completion zsh)         add it to ~/.zshrc, after compinit
  fish         peer completion fish > ~/.config/fish/completions/peer.fish
  powershell   peer completion powershell | Out-String | Invoke-Expression        add it to $PROFILE`,
    )
    .action(async (shell: string) => {
      const tree = await completionTree(cli)
      if (shell === 'bash') cli.io.stdout.write(BASH_WITHOUT_PACKAGE)
      tree.setup('peer', shell === 'zsh' ? `${SHELL_VARIABLE}=zsh peer` : 'peer', shell)
      if (shell === 'bash') cli.io.stdout.write(BASH_NAMES)
    })
}

/** The library's script relies on the package bash-completion, which not every system has. */
const BASH_WITHOUT_PACKAGE = `if ! declare -F _get_comp_words_by_ref >/dev/null; then
  _get_comp_words_by_ref() {
    words=("\${COMP_WORDS[@]}") cword=$COMP_CWORD cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]}
  }
fi
`
/** Spaces in what is offered are quoted. Where `complete` leaves it to the shell, files of this machine are completed. */
const BASH_NAMES = `__peer_complete_quoted() {
  __peer_complete
  COMPREPLY=("\${COMPREPLY[@]// /\\\\ }")
}
complete -o default -F __peer_complete_quoted peer
`
