// Stand-ins for Jenkins's steps: runs a Jenkinsfile and prints what a viewer of the build would see.
//
//   groovy.ui.GroovyMain steps.groovy JENKINSFILE CODE[=TITLE] ...
//
// The client's runs end with the exit codes given, in turn, and leave a title behind. Whoever waits outside the
// client must not hold an agent.

import org.codehaus.groovy.control.CompilerConfiguration

abstract class Steps extends Script {
    private static final Set BLOCKS = ['pipeline', 'stages', 'steps', 'script', 'post', 'always', 'timeout',
        'withCredentials', 'environment', 'options']

    Object stage(String name, Closure body) {
        println "stage: ${name}"
        run(body)
    }

    Object input(Map options) {
        println "input: ${options.message.readLines().first()}${held()}"
    }

    Object sleep(Map options) {
        println "sleep: ${options.time} ${options.unit}${held()}"
    }

    Object node(Closure body) {
        binding.setVariable('agents', agents + 1)
        try {
            return run(body)
        } finally {
            binding.setVariable('agents', agents - 1)
        }
    }

    Object error(String message) {
        throw new IllegalStateException(message.readLines().first())
    }

    Object sh(Map options) {
        if (options.returnStdout) {
            return 'lockkeeper:1\n'
        }
        if (!options.script.contains('lockkeeper.py')) {
            return null
        }
        String call = options.script.readLines()*.trim().find { line -> line.contains('lockkeeper.py') }
        println "client: ${call}"
        List answer = call.contains('register-build') ? ['0'] : answers.remove(0).tokenize('=')
        binding.setVariable('title', answer.size() > 1 ? answer[1] : '')
        answer[0] as int
    }

    Object readFile(String name) {
        name.endsWith('.title') ? "${title}\n" : name.endsWith('.pause') ? '90\n' : '7\n'
    }

    Object fileExists(String name) {
        true
    }

    Object string(Map options) {
        options
    }

    Object methodMissing(String name, Object arguments) {
        if (name in BLOCKS && arguments && arguments[-1] instanceof Closure) {
            return run(arguments[-1])
        }
        null
    }

    Object propertyMissing(String name) {
        name
    }

    private String held() {
        agents ? ' (holding an agent)' : ''
    }

    private Object run(Closure body) {
        body.delegate = this
        body.call()
    }
}

CompilerConfiguration configuration = new CompilerConfiguration(scriptBaseClass: Steps.name)
Binding binding = new Binding(env: [LOCKKEEPER_BUCKET: 'bucket'], answers: args.tail() as List, title: '', agents: 0)
try {
    new GroovyShell(getClass().classLoader, binding, configuration).evaluate(new File(args[0]))
    println 'end: success'
} catch (IllegalStateException failure) {
    println "end: ${failure.message}"
}
