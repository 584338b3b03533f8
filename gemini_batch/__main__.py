from gemini_batch.cli import main

main()
